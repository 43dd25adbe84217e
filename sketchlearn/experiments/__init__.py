"""microgpt, other training programs to try, worlds with known answers, the paper's figures, the comparison, the map."""
