/* "Delete it yourself": the package's default estimator, evaluated in the reader's browser.

   The first half computes and knows no page; it also runs under node, where the tests compare it with the package.
   The second half draws. No library, no request: the data are in delete_data.js (tools/make_page_data.py). */
"use strict";

var sketchlearnDelete = (function () {
  var NORMAL_95 = 1.959963984540054;

  function decode(packed) {
    var raw = atob(packed.base64), bytes = new Uint8Array(raw.length);
    for (var b = 0; b < raw.length; b++) bytes[b] = raw.charCodeAt(b);
    return new Float32Array(bytes.buffer);
  }

  function binomial(n, r) {
    var out = 1;
    for (var i = 1; i <= r; i++) out = out * (n - r + i) / i;
    return out;
  }

  /* A predictor from the data of the page.

     moments(ticked): the Taylor terms P_r(z) of every test name at full deletion, and their covariance.
     at(moments, share): what Sketch.predict(query, share * x) returns with estimator="auto". */
  function predictor(data) {
    var q = data.units.length, m = data.numDirections, k = data.degree, Q = data.tests.length;
    // from how many standard errors on a term is there, and what is left out is judged by: Calibration of the package
    var by = data.calibration;
    var psi = decode(data.directions), fits = decode(data.fits), left = decode(data.residuals);
    // (of what the mean shows of what fits leave; of all), (pure, mixed), order, test; what fits leave over all: order, test
    var sizes = decode(data.sizes), fraction = decode(data.left);
    var gradient = decode(data.gradient), scales = decode(data.scales), baseline = decode(data.baseline);
    var length = data.units.map(function (u) { return Math.sqrt(u.names.length); });
    // the largest share of the names that was ever deleted for real: beyond it nothing was compared with the truth
    var checked = Math.max.apply(null, data.cases.map(function (one) {
      return one.units.reduce(function (sum, j) { return sum + data.units[j].names.length; }, 0) / data.numExamples;
    }));

    // Powers of <psi_i, z>, unconjugated: (m, k, 2)
    function powers(z) {
      var out = new Float64Array(m * k * 2);
      for (var i = 0; i < m; i++) {
        var re = 0, im = 0;
        for (var j = 0; j < q; j++) {
          if (z[j]) {
            re += psi[2 * (i * q + j)] * z[j];
            im += psi[2 * (i * q + j) + 1] * z[j];
          }
        }
        var x = re, y = im;
        for (var r = 0; r < k; r++) {
          out[2 * (i * k + r)] = x;
          out[2 * (i * k + r) + 1] = y;
          var next = x * re - y * im;
          y = x * im + y * re;
          x = next;
        }
      }
      return out;
    }

    // The sum over coordinates of (psi_ij z_j)^r, the pure powers: (m, k, 2)
    function purePowers(z) {
      var out = new Float64Array(m * k * 2);
      for (var i = 0; i < m; i++) {
        for (var j = 0; j < q; j++) {
          if (!z[j]) continue;
          var re = psi[2 * (i * q + j)] * z[j], im = psi[2 * (i * q + j) + 1] * z[j], x = re, y = im;
          for (var r = 0; r < k; r++) {
            out[2 * (i * k + r)] += x;
            out[2 * (i * k + r) + 1] += y;
            var next = x * re - y * im;
            y = x * im + y * re;
            x = next;
          }
        }
      }
      return out;
    }

    // The typical size of every order at a deletion, of a test
    function typical(which, sums, t) {
      return Array.from(sums, function (alone, r) {
        var pure = sizes[(2 * which * k + r) * Q + t], mixed = sizes[((2 * which + 1) * k + r) * Q + t];
        return Math.sqrt(alone * pure + Math.max(0, Math.pow(sums[0], r + 1) - alone) * mixed);
      });
    }

    function moments(ticked) {
      var z = new Float64Array(q), scaled = new Float64Array(q), deleted = 0, total = 0;
      var sums = new Float64Array(k), square = 0, fourth = 0;  // of z^2r, and of z^2 and z^4
      for (var j = 0; j < q; j++) {
        if (!ticked[j]) continue;
        z[j] = length[j];
        scaled[j] = length[j] * scales[j];
        deleted += data.units[j].names.length;
        total += z[j];
        square += z[j] * z[j];
        fourth += Math.pow(z[j], 4);
        for (var r = 0; r < k; r++) sums[r] += Math.pow(z[j] * z[j], r + 1);
      }
      var few = fourth ? by.few_coordinates * fourth / (square * square) + total * total / (q * square) : 1;
      var plain = powers(z), other = powers(scaled), pure = purePowers(scaled), tests = [];
      for (var i = 0; i < m; i++) {
        for (r = 2; r <= k; r++) {
          for (var part = 0; part < 2; part++) {
            var at = 2 * (i * k + r - 1) + part;
            other[at] += data.bonus[r - 2] * pure[at];
          }
        }
      }
      for (var t = 0; t < Q; t++) {
        var terms = new Float64Array(k), sure = new Float64Array(k), size = 0, covariance = [], each = [];
        for (j = 0; j < q; j++) {
          var moved = z[j] * gradient[j * Q + t];
          terms[0] += moved;  // order one, solved for: g.z
          size += moved * moved;
        }
        for (r = 2; r <= k; r++) {
          // the fit, Re[conj(beta) k(psi, z)] summed, and the mean of C(q+r-1, r) Re[conj(<psi, z>)^r residual]
          var kernel = data.scaled[r - 2][t] ? other : plain;
          var constant = binomial(q + r - 1, r), u = new Float64Array(m), mean = 0, fit = 0;
          for (i = 0; i < m; i++) {
            var p = 2 * (i * k + r - 1), c = 2 * ((i * (k - 1) + r - 2) * Q + t);
            fit += fits[c] * kernel[p] + fits[c + 1] * kernel[p + 1];
            u[i] = constant * (left[c] * plain[p] + left[c + 1] * plain[p + 1]);
            mean += u[i] / m;
          }
          for (i = 0; i < m; i++) u[i] -= mean;
          terms[r - 1] = fit + mean;
          sure[r - 1] = data.proven[r - 2][t] ? fit : 0;
          each.push(u);
        }
        for (var a = 0; a < k; a++) {
          covariance.push(new Float64Array(k));
          for (var b = 0; b < k; b++) {
            if (!a || !b) continue;  // order one is exact
            var sum = 0;
            for (i = 0; i < m; i++) sum += each[a - 1][i] * each[b - 1][i];
            covariance[a][b] = sum / m / (m - 1);
          }
        }
        tests.push({
          terms: terms, sure: sure, covariance: covariance, size: Math.sqrt(size),
          expected: typical(0, sums, t), whole: typical(1, sums, t)
        });
      }
      return {
        tests: tests, deleted: deleted, fraction: deleted / data.numExamples, unlike: Math.sqrt(Math.min(1, few))
      };
    }

    function at(found, share) {
      var bend = Math.min(1, Math.sqrt(found.fraction * share / by.full_bend));
      return found.tests.map(function (test, t) {
        var terms = [], errors = [], used = [], shrunk = [], before = 0, ok = true, change = 0, variance = 0;
        var count = 0, lost = 0, unused = 0;
        for (var r = 0; r < k; r++) {
          var factor = Math.pow(share, r + 1);
          terms.push(test.terms[r] * factor);
          errors.push(Math.sqrt(Math.max(0, test.covariance[r][r])) * factor);
          // an order is used if it is expected to exceed its error; or if it does so three times, and could be so large
          var size = Math.abs(terms[r]), expected = test.expected[r] * factor, noise = errors[r] * errors[r];
          if (r) ok = ok && (errors[r] <= expected || (size >= by.clear_errors * errors[r] && errors[r] <= by.harmless_error * before));
          before = Math.max(before, size);
          used.push(ok);
          // else what its fit explains, and the share of the rest that is expected not to be noise
          var part = noise ? expected * expected / (expected * expected + noise) : 1, sure = test.sure[r] * factor;
          shrunk.push(sure + part * (terms[r] - sure));
          var whole = test.whole[r] * factor;
          if (ok) count++;
          else {
            lost += part * part * noise + Math.pow((1 - part) * whole * fraction[r * Q + t], 2);
            unused += whole * whole;
          }
          change += ok ? terms[r] : shrunk[r];
        }
        for (var a = 0; a < k; a++) {
          for (var b = 0; b < k; b++) {
            if (used[a] && used[b]) variance += test.covariance[a][b] * Math.pow(share, a + b + 2);
          }
        }
        // what is left out: as much as the largest of the used terms, and the typical sizes, continued by two orders
        var last = Math.abs(terms[count - 1]), previous = count > 1 ? Math.abs(terms[count - 2]) : 0;
        var decays = count < 2 || last < previous || last === 0, own = 0;
        var typicalFirst = test.whole[0] * share, moved = typicalFirst > 0 ? Math.abs(terms[0]) / typicalFirst : 0;
        var aimed = Math.min(1, Math.max(0, moved / by.aimed_ratio - 1));
        for (r = 0; r < count; r++) {
          size = Math.abs(terms[r]);
          if (!r) size = Math.max(bend, aimed) * Math.max(size, share * test.size);
          own = Math.max(own, size);
        }
        var next = test.whole[k - 1] * Math.pow(share, k), one = test.whole[k - 2] * Math.pow(share, k - 1);
        var ratio = Math.min((one > 0 ? next / one : 1) * k * k / (k * k - 1), by.most_growth);
        var ahead = Math.pow(next * ratio, 2) * (1 + Math.pow(Math.min(ratio, 1), 2));
        // of own terms continued to what fits and means know in part, the rest counts
        var missing = lost + ahead, every = unused + ahead;
        own *= Math.max(found.unlike, aimed) * (every > missing ? Math.sqrt(missing / every) : 1);
        var truncation = Math.hypot(by.deletion_excess * Math.sqrt(missing), own);
        var error = Math.sqrt(Math.max(0, variance)), width = NORMAL_95 * Math.hypot(error, truncation);
        var value = baseline[t] + change;
        // out of range: more is deleted than was ever checked, or the interval holds what no loss can be
        var beyond = found.fraction * share > checked + 1e-9 ? "unchecked" : value - width < 0 ? "below zero" : "";
        return {
          test: data.tests[t], baseline: baseline[t], value: value, change: change, terms: terms,
          standardErrors: errors, standardError: error, truncation: truncation, used: used, shrunk: shrunk,
          decays: decays, low: value - width, high: value + width, beyond: beyond
        };
      });
    }

    return {
      moments: moments, at: at, checked: checked,
      predict: function (ticked, share) { return at(moments(ticked), share === undefined ? 1 : share); }
    };
  }

  /* How right the predictions are where the truth is stored, by group of cases, at full deletion. */
  function scores(data, predict) {
    var truth = decode(data.truth), S = data.shares.length, Q = data.tests.length, groups = [], worst = null;
    data.cases.forEach(function (one, n) {
      var group = groups.filter(function (g) { return g.group === one.group; })[0];
      if (!group) groups.push(group = {group: one.group, cases: 0, count: 0, change: 0, first: 0, error: 0, held: 0});
      group.cases++;
      var ticked = new Uint8Array(data.units.length);
      one.units.forEach(function (j) { ticked[j] = 1; });
      predict(ticked, 1).forEach(function (p, t) {
        var real = truth[(n * S + S - 1) * Q + t], held = p.low <= real && real <= p.high;
        group.count++;
        group.change += Math.pow(real - p.baseline, 2);
        group.first += Math.pow(real - p.baseline - p.terms[0], 2);
        group.error += Math.pow(real - p.value, 2);
        group.held += held ? 1 : 0;
        var miss = Math.abs(real - p.value) / (p.high - p.low) * 2;
        if (!held && !p.beyond && Math.abs(real - p.value) > 0.05 && (!worst || miss > worst.miss)) {
          worst = {miss: miss, index: n, test: p.test};
        }
      });
    });
    return {
      worst: worst,
      groups: groups.map(function (g) {
        function rms(x) { return Math.sqrt(x / g.count); }
        return {group: g.group, cases: g.cases, count: g.count, change: rms(g.change), first: rms(g.first),
          error: rms(g.error), held: g.held / g.count};
      })
    };
  }

  return {decode: decode, predictor: predictor, scores: scores};
})();

if (typeof module === "object" && module.exports) module.exports = sketchlearnDelete;

/* The page. */
if (typeof document !== "undefined") (function () {
  var SVG = "http://www.w3.org/2000/svg", POINTS = 41;

  function element(tag, attributes, children, space) {
    var out = space ? document.createElementNS(space, tag) : document.createElement(tag);
    Object.keys(attributes || {}).forEach(function (name) {
      if (name === "text") out.textContent = attributes.text;
      else if (name.slice(0, 2) === "on") out.addEventListener(name.slice(2), attributes[name]);
      else out.setAttribute(name, attributes[name]);
    });
    (children || []).forEach(function (child) { if (child) out.append(child); });
    return out;
  }

  function drawn(tag, attributes, children) { return element(tag, attributes, children, SVG); }

  function loss(x) { return x.toFixed(3); }

  function signed(x, digits) {
    var text = Math.abs(x).toFixed(digits === undefined ? 3 : digits);
    return (x < 0 && Number(text) ? "\u2212" : "+") + text;
  }

  function listed(words) {
    return words.length < 2 ? words.join("") : words.slice(0, -1).join(", ") + " and " + words[words.length - 1];
  }

  function plural(n, word) { return n.toLocaleString("en") + " " + word + (n === 1 ? "" : "s"); }

  function start() {
    var root = document.getElementById("delete-it");
    if (!root || typeof sketchlearnDeletePage === "undefined") return;
    var data = sketchlearnDeletePage, model = sketchlearnDelete.predictor(data);
    var truth = sketchlearnDelete.decode(data.truth), S = data.shares.length, Q = data.tests.length;
    var ticked = new Uint8Array(data.units.length), share = 1, speak = 0;
    var single = data.units.map(function (u) { return u.names.length === 1 && u.label === u.names[0]; });
    var letters = data.units.map(function (u) { return u.letter; })
      .filter(function (l, i, all) { return all.indexOf(l) === i; });
    var stored = {};
    data.cases.forEach(function (one, n) {
      var key = one.units.join();
      if (!(key in stored)) stored[key] = n;
    });

    // ------------------------------------------------------------ controls
    function set(wanted) {
      for (var j = 0; j < ticked.length; j++) ticked[j] = wanted(j) ? 1 : 0;
      update();
    }
    function button(text, press, more) {
      return element("button", Object.assign({type: "button", text: text, onclick: press}, more));
    }
    function containing(letter) {
      return function () { set(function (j) { return single[j] && data.units[j].label.indexOf(letter) >= 0; }); };
    }
    var percent = element("input", {type: "number", id: "delete-percent", min: 1, max: 100, value: 10});
    function random() {
      var all = single.map(function (s, j) { return s ? j : -1; }).filter(function (j) { return j >= 0; });
      for (var i = all.length - 1; i > 0; i--) {
        var other = Math.floor(Math.random() * (i + 1)), kept = all[i];
        all[i] = all[other];
        all[other] = kept;
      }
      var p = Math.min(100, Math.max(0, Number(percent.value) || 0));
      var chosen = all.slice(0, Math.round(p / 100 * all.length));
      set(function (j) { return chosen.indexOf(j) >= 0; });
    }

    var letterButtons = letters.map(function (letter) {
      return button(letter, function () {
        var mine = function (j) { return data.units[j].letter === letter; };
        var every = data.units.every(function (u, j) { return !mine(j) || ticked[j]; });
        set(function (j) { return mine(j) ? !every : ticked[j]; });
      }, {"class": "letter"});
    });

    var boxes = data.units.map(function (u, j) {
      var box = element("input", {type: "checkbox", id: "delete-" + j, onchange: function () {
        ticked[j] = box.checked ? 1 : 0;
        update();
      }});
      return box;
    });
    var rows = data.units.map(function (u, j) {
      return element("label", {"for": "delete-" + j, "class": single[j] ? "" : "rest"}, [boxes[j], " " + u.label]);
    });
    var groups = letters.map(function (letter) {
      return element("div", {role: "group", "aria-label": "Names that begin with " + letter},
        rows.filter(function (_, j) { return data.units[j].letter === letter; }));
    });
    var found = element("p", {"class": "found", role: "status"});
    var search = element("input", {type: "search", id: "delete-search", autocomplete: "off", spellcheck: "false",
      oninput: function () {
        var text = search.value.trim().toLowerCase(), shown = 0, inside = [];
        data.units.forEach(function (u, j) {
          var hits = text ? u.names.filter(function (n) { return n.indexOf(text) >= 0; }) : u.names;
          rows[j].hidden = !hits.length;
          shown += hits.length ? 1 : 0;
          if (text && !single[j]) hits.forEach(function (n) { inside.push(n); });
        });
        groups.forEach(function (g, i) {
          g.hidden = rows.every(function (r, j) { return data.units[j].letter !== letters[i] || r.hidden; });
        });
        found.textContent = !text ? "" : !shown ? "No training name contains \u201c" + text + "\u201d." :
          inside.length ? "Only with the others of their letter: " + listed(inside.slice(0, 8)) +
          (inside.length > 8 ? " (and " + (inside.length - 8) + " more)" : "") + "." : "";
      }});

    var choice = element("select", {id: "delete-case"});
    data.cases.forEach(function (one, n) {
      var last = choice.lastElementChild;
      if (!last || last.label !== one.group) choice.append(last = element("optgroup", {label: one.group}));
      last.append(element("option", {value: n, text: one.label}));
    });
    function jump(n) {
      set(function (j) { return data.cases[n].units.indexOf(j) >= 0; });
    }

    var slider = element("input", {type: "range", id: "delete-share", min: 0, max: 100, step: 1, value: 100,
      oninput: function () { share = Number(slider.value) / 100; update(); }});
    var sliderText = element("output", {"for": "delete-share"});

    root.append(
      element("div", {"class": "controls"}, [
        element("div", {"class": "tools", role: "group", "aria-label": "Ready-made deletions"}, [
          button("names with an x", containing("x"), {id: "delete-x"}),
          button("with a q", containing("q")), button("with a z", containing("z")),
          element("span", {"class": "together"}, [
            button("random", random, {id: "delete-random"}), percent,
            element("label", {"for": "delete-percent", text: "% of the names below"})
          ]),
          button("clear", function () { set(function () { return false; }); }, {id: "delete-clear"})
        ]),
        element("div", {"class": "tools", role: "group", "aria-label": "All names with a first letter"}, letterButtons),
        element("div", {"class": "tools"}, [
          element("label", {"for": "delete-search", text: "Find a name"}), search, found
        ]),
        element("div", {"class": "names", role: "group", "aria-label": "Names to delete", tabindex: 0}, groups),
        element("div", {"class": "tools"}, [
          element("label", {"for": "delete-case", text: "Retrained cases"}), choice,
          button("show", function () { jump(Number(choice.value)); }, {id: "delete-show"})
        ]),
        element("div", {"class": "tools"}, [
          element("label", {"for": "delete-share", text: "Share that is deleted"}), slider, sliderText
        ])
      ])
    );

    // ------------------------------------------------------------ results
    var summary = element("p", {"class": "summary", id: "delete-summary"});
    var live = element("p", {"class": "only-read", role: "status"});
    var range = element("p", {"class": "range", id: "delete-range", role: "status"});
    var panels = element("div", {"class": "panels"});
    var table = element("table", {id: "delete-table"});
    var notes = element("ul", {"class": "notes", id: "delete-notes"});
    root.append(
      element("div", {"class": "results"}, [
        summary, live, range,
        element("p", {"class": "legend"}, [
          element("span", {"class": "key line", "aria-hidden": "true"}), " predicted, with a 95% interval ",
          element("span", {"class": "key dot", "aria-hidden": "true"}), " retrained ",
          element("span", {"class": "key out", "aria-hidden": "true"}), " out of range"
        ]),
        panels,
        element("div", {"class": "scroll", role: "region", tabindex: 0, "aria-label": "The numbers, order by order"},
          [table]),
        notes
      ])
    );

    function storedCase() {
      var key = [];
      for (var j = 0; j < ticked.length; j++) if (ticked[j]) key.push(j);
      key = key.join();
      return key in stored ? stored[key] : -1;
    }
    function truthAt(n, s, t) { return truth[(n * S + s) * Q + t]; }

    function step(range) {
      var rough = range / 5, power = Math.pow(10, Math.floor(Math.log10(rough)));
      return power * [1, 2, 5, 10].filter(function (f) { return f * power >= rough; })[0];
    }

    function panel(t, curves, now, here, low, high, tick) {
      var W = 190, H = 150, left = 40, right = 16, top = 8, bottom = 30, p = now[t];
      function x(s) { return (left + s * (W - left - right)).toFixed(2); }
      function y(v) { return (top + (high - v) / (high - low) * (H - top - bottom)).toFixed(2); }
      var children = [], digits = Math.max(1, -Math.floor(Math.log10(tick) + 1e-9));
      for (var v = Math.ceil(low / tick - 1e-9) * tick; v <= high + 1e-9; v += tick) {
        children.push(drawn("line", {x1: x(0), x2: x(1), y1: y(v), y2: y(v),
          "class": Math.abs(v) < tick / 2 ? "zero" : "grid"}));
        children.push(drawn("text", {x: left - 4, y: y(v), "class": "y", text: Math.abs(v) < tick / 2 ? "0" :
          signed(v, digits)}));
      }
      [0, 0.5, 1].forEach(function (s) {
        children.push(drawn("text", {x: x(s), y: H - bottom + 13, "class": "x", text: 100 * s + "%"}));
      });
      children.push(drawn("text", {x: x(0.5), y: H - 4, "class": "x", text: "share deleted"}));
      var line = [], above = [], below = [];
      curves.slice(0, inRange(curves, t)).forEach(function (c, i) {
        var s = i / (POINTS - 1), b = c[t].baseline;
        line.push(x(s) + "," + y(c[t].value - b));
        above.push(x(s) + "," + y(c[t].high - b));
        below.unshift(x(s) + "," + y(c[t].low - b));
      });
      if (line.length < POINTS) {  // no curve and no interval where they mean nothing
        var from = x(Math.max(0, line.length - 0.5) / (POINTS - 1));
        children.push(drawn("rect", {x: from, y: top, width: x(1) - from, height: H - top - bottom, "class": "out"}));
      }
      children.push(drawn("polygon", {points: above.concat(below).join(" "), "class": "band"}));
      children.push(drawn("polyline", {points: line.join(" "), "class": "curve"}));
      if (!p.beyond) {
        children.push(drawn("line", {x1: x(share), x2: x(share), y1: y(p.low - p.baseline), y2: y(p.high - p.baseline),
          "class": "bar"}));
        children.push(drawn("rect", {x: x(share) - 3.5, y: y(p.change) - 3.5, width: 7, height: 7, "class": "mark"}));
      }
      if (here >= 0) data.shares.forEach(function (s, i) {
        children.push(drawn("circle", {cx: x(s), cy: y(truthAt(here, i, t) - p.baseline), r: 2.6, "class": "truth"}));
      });
      var words = "Loss on " + p.test + " against the deleted share: " + loss(p.baseline) + " at none, " + (p.beyond ?
        "out of range at " + Math.round(100 * share) + "%" : "predicted " + loss(p.value) + " at " +
        Math.round(100 * share) + "%, between " + loss(p.low) + " and " + loss(p.high)) +
        (here < 0 ? "." : "; retrained at 100%: " + loss(truthAt(here, S - 1, t)) + ".");
      return element("figure", {}, [
        element("figcaption", {}, [element("strong", {text: p.test}), p.beyond ? "out of range" :
          loss(p.baseline) + " \u2192 " + loss(p.value)]),
        drawn("svg", {viewBox: "0 0 " + W + " " + H, role: "img", "aria-label": words}, children)
      ]);
    }

    function cell(text, value, more) {
      return element("td", Object.assign({text: text}, value === undefined ? {} : {"data-value": value}, more));
    }

    function fill(now, here) {
      var at = here < 0 ? -1 : data.shares.findIndex(function (s) { return Math.abs(s - share) < 1e-9; });
      var head = ["test name", "loss now", "predicted", "95% interval", "retrained"];
      for (var r = 1; r <= data.degree; r++) head.push("order " + r);
      table.replaceChildren(
        element("caption", {text: "Losses at " + Math.round(100 * share) + "% deleted, in nats. In brackets: lost " +
          "in noise; below, what its fit explains. Out of range: the terms do not add up to a prediction."}),
        element("thead", {}, [element("tr", {}, head.map(function (h) {
          return element("th", {scope: "col", text: h});
        }))]),
        element("tbody", {}, now.map(function (p, t) {
          var real = share === 0 ? p.baseline : at < 0 ? null : truthAt(here, at, t);
          return element("tr", {"data-test": p.test}, [
            element("th", {scope: "row", text: p.test}),
            cell(loss(p.baseline), p.baseline),
            p.beyond ? cell("\u2013", p.value) : cell(loss(p.value), p.value, {"class": "predicted"}),
            cell(p.beyond ? "out of range" : loss(p.low) + " to " + loss(p.high), p.low + " " + p.high),
            real === null ? cell("\u2013") : cell(loss(real), real, {"class": "real"})
          ].concat(p.terms.map(function (term, r) {
            var text = signed(term) + (r ? " \u00b1 " + loss(p.standardErrors[r]) : "");
            if (!p.used[r]) text = "(" + text + ")" + (p.shrunk[r] ? "\n" + signed(p.shrunk[r]) : "");
            return cell(text, term + " " + p.standardErrors[r]);
          })));
        }))
      );
    }

    /* From how many points of the curves on a test is out of range, counted from no deletion. */
    function inRange(curves, t) {
      var first = curves.findIndex(function (c) { return c[t].beyond; });
      return first < 0 ? curves.length : first;
    }

    /* What cannot be answered, in words; nothing if all can. */
    function outOfRange(now) {
      var out = now.filter(function (p) { return p.beyond; });
      if (!out.length) return "";
      if (out[0].beyond === "unchecked") return "Out of range: more is deleted here than in any case that was trained " +
        "again (" + Math.round(100 * model.checked) + "% of the data). Three terms of a series around all of the data say " +
        "nothing reliable about so different a model, so no prediction is shown. Delete less.";
      return "Out of range for " + listed(out.map(function (p) { return p.test; })) + ": the 95% interval would reach " +
        "below zero, and no loss is negative. The terms do not determine the answer, so none is shown. Delete less.";
    }

    function explain(now, here, count) {
      var out = [];  // the warnings of prediction.py, for these eight predictions
      for (var r = 1; r < data.degree; r++) {
        var without = now.filter(function (p) { return !p.beyond && !p.used[r] && p.used[r - 1]; });
        if (without.length) out.push((r + 1 < data.degree ? "Orders from " + (r + 1) + " on are" : "Order " + (r + 1) +
          " is") + " lost in noise for " + listed(without.map(function (p) { return p.test; })) + ": an error " +
          "larger than what was averaged is expected to be. A shrunk estimate is used; the interval allows for what is " +
          "then missing.");
      }
      var grow = now.filter(function (p) { return !p.decays; }).map(function (p) { return p.test; });
      if (grow.length) out.push("The terms do not decay for " + listed(grow) + ": the deletion may lie outside the " +
        "radius in which the series can be trusted, or the last order is noise.");
      if (here >= 0) {
        var missed = now.filter(function (p, t) {
          var s = data.shares.findIndex(function (v) { return Math.abs(v - share) < 1e-9; });
          return s >= 0 && !p.beyond && (truthAt(here, s, t) < p.low || truthAt(here, s, t) > p.high);
        }).map(function (p) { return p.test; });
        if (missed.length) out.push("Wrong here: the retrained loss on " + listed(missed) +
          " lies outside the 95% interval.");
      }
      if (!count) out = [];
      notes.replaceChildren.apply(notes, out.map(function (text) { return element("li", {text: text}); }));
    }

    function update() {
      boxes.forEach(function (box, j) { box.checked = !!ticked[j]; });
      letterButtons.forEach(function (b, i) {
        var mine = data.units.map(function (u, j) { return u.letter === letters[i] ? ticked[j] : -1; });
        var on = mine.indexOf(1) >= 0, off = mine.indexOf(0) >= 0;
        b.setAttribute("aria-pressed", on && off ? "mixed" : String(on));
      });
      var moments = model.moments(ticked), now = model.at(moments, share), here = storedCase(), curves = [];
      for (var i = 0; i < POINTS; i++) curves.push(model.at(moments, i / (POINTS - 1)));
      var low = -0.05, high = 0.05;
      curves.forEach(function (c, i) {
        c.forEach(function (p, t) {
          if (i >= inRange(curves, t)) return;
          low = Math.min(low, p.low - p.baseline);
          high = Math.max(high, p.high - p.baseline);
        });
      });
      if (here >= 0) data.shares.forEach(function (_, s) {
        now.forEach(function (p, t) {
          low = Math.min(low, truthAt(here, s, t) - p.baseline);
          high = Math.max(high, truthAt(here, s, t) - p.baseline);
        });
      });
      var pad = 0.04 * (high - low), tick = step(high - low);
      panels.replaceChildren.apply(panels, data.tests.map(function (_, t) {
        return panel(t, curves, now, here, low - pad, high + pad, tick);
      }));
      fill(now, here);
      explain(now, here, moments.deleted);
      sliderText.textContent = Math.round(100 * share) + "%";
      var inside = now.filter(function (p) { return !p.beyond; }), most = inside.length && inside.reduce(function (a, b) {
        return Math.abs(b.change) > Math.abs(a.change) ? b : a;
      });
      var text = !moments.deleted ? "Nothing is deleted. Tick names, or press a button." :
        plural(moments.deleted, "name") + " of " + data.numExamples.toLocaleString("en") + " deleted" +
        (share < 1 ? " to " + Math.round(100 * share) + "%" : "") + ". " + (!most ? "" : "The largest change " +
        (inside.length < now.length ? "in range " : "") + "is that of " + most.test +
        ": " + signed(most.change) + " nats, from " + loss(most.baseline) + " to " + loss(most.value) +
        " (95% interval " + loss(most.low) + " to " + loss(most.high) + "). ") + (here >= 0 ?
        "This case was retrained: the dots are its losses." :
        "No retraining is stored for this set; the list of retrained cases has some.");
      summary.textContent = text;
      var warned = outOfRange(now);
      if (range.textContent !== warned) range.textContent = warned;  // spoken when it changes
      clearTimeout(speak);  // a reader hears the last of a quick series of changes
      speak = setTimeout(function () { live.textContent = text; }, 700);
    }

    function judge() {
      var place = document.getElementById("delete-scores");
      if (!place) return;
      var result = sketchlearnDelete.scores(data, model.predict);
      place.replaceChildren(element("table", {}, [
        element("caption", {text: "Stored cases, fully deleted. Root mean squares, in nats."}),
        element("thead", {}, [element("tr", {}, ["cases", "number", "change", "error, order 1", "error", "held by 95%"]
          .map(function (h) { return element("th", {scope: "col", text: h}); }))]),
        element("tbody", {}, result.groups.map(function (g) {
          return element("tr", {}, [element("th", {scope: "row", text: g.group}), cell(String(g.cases)),
            cell(loss(g.change), g.change), cell(loss(g.first), g.first), cell(loss(g.error), g.error),
            cell(Math.round(100 * g.held) + "%", g.held)]);
        }))
      ]));
      if (result.worst) place.after(element("p", {}, [button("show the worst miss", function () {
        slider.value = 100;
        share = 1;
        jump(result.worst.index);
        choice.value = result.worst.index;
        root.scrollIntoView();
        choice.focus({preventScroll: true});
      }, {id: "delete-worst"})]));
    }

    root.classList.add("ready");
    jump(0);
    setTimeout(judge, 50);
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
