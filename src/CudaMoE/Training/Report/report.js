// Fills the report's figures from the data in the page, and anew when the colour scheme changes. Where there are many, a chart is made
// when its figure comes near the screen. Values that are null are undefined and leave a gap.
'use strict';
(() => {
  const data = JSON.parse(document.getElementById('run-data').textContent);
  const dark = window.matchMedia('(prefers-color-scheme: dark)');
  const metricChoice = document.getElementById('metric');

  // Okabe and Ito's colours for all kinds of colour vision, the pale and the dark ones moved so that they stand out on the surface.
  const palettes = {
    light: ['#0072b2', '#d55e00', '#00825f', '#b3478a', '#9a6a00', '#2a8ac4', '#5b5b5b'],
    dark: ['#56b4e9', '#f08a3c', '#2fc79a', '#e08fc0', '#e6b800', '#9ccdf0', '#c0c0c0'],
  };
  const dashes = [[], [6, 3], [2, 3], [8, 3, 2, 3]];

  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const colour = (i) => palettes[dark.matches ? 'dark' : 'light'][i % palettes.light.length];
  const dash = (i) => dashes[Math.floor(i / palettes.light.length) % dashes.length];
  const faded = (i) => `${colour(i)}66`;
  const metricLabel = (name) => (name.length <= 4 ? name.toUpperCase() : name.replaceAll('_', ' '));
  const points = (xs, ys) => xs.map((x, i) => ({ x, y: ys[i] }));
  const has = (values) => values.some((v) => v !== null);

  function short(value) {
    const size = Math.abs(value);
    if (size >= 1e4 || (size > 0 && size < 1e-3)) return value.toExponential(2);
    return String(Number(value.toPrecision(5)));
  }

  function ticks(value) {
    const size = Math.abs(value);
    if (size >= 1e6) return `${Number((value / 1e6).toPrecision(4))}M`;
    if (size >= 1e3) return `${Number((value / 1e3).toPrecision(4))}k`;
    if (size > 0 && size < 1e-3) return value.toExponential(0);
    return String(Number(value.toPrecision(4)));
  }

  // Labels of a logarithmic axis: powers of ten, and between them 2 and 5 where it spans less than two of them.
  function logTicks(value) {
    const lead = value / 10 ** Math.floor(Math.log10(value) + 1e-9);
    const wanted = this.max / this.min > 100 ? [1] : [1, 2, 5];
    return wanted.some((w) => Math.abs(lead - w) < 1e-6) ? ticks(value) : '';
  }

  // The next number above that reads well.
  function roundUp(value) {
    const unit = 10 ** Math.floor(Math.log10(value)) / 5;
    return Math.ceil(value / unit - 1e-9) * unit;
  }

  function axis(title, more = {}) {
    return {
      type: 'linear',
      title: { display: true, text: title, color: css('--muted') },
      grid: { color: css('--line') },
      border: { color: css('--line') },
      ...more,
      ticks: { color: css('--muted'), maxRotation: 0, callback: ticks, ...more.ticks },
    };
  }

  function options(x, y, more = {}) {
    return {
      animation: false,
      responsive: true,
      maintainAspectRatio: false,
      interaction: { mode: 'index', intersect: false, axis: 'x' },
      scales: { x, y },
      plugins: {
        legend: { labels: { color: css('--text'), boxWidth: 18, boxHeight: 1 } },
        tooltip: {
          callbacks: {
            title: (items) => (items.length ? `${x.title.text} ${short(items[0].parsed.x)}` : ''),
            label: (item) => `${item.dataset.label}: ${short(item.parsed.y)}`,
          },
        },
        ...more.plugins,
      },
    };
  }

  function line(label, i, dataset) {
    return {
      label, borderColor: colour(i), backgroundColor: colour(i), borderDash: dash(i), borderWidth: 1.6, pointRadius: 0, pointHitRadius: 8,
      spanGaps: false, ...dataset,
    };
  }

  const stepAxis = () => axis('Step', { ticks: { callback: (v) => (Number.isInteger(v) ? ticks(v) : '') } });

  // A curve of one point has no line, so it gets a dot.
  const stepDots = () => (data.steps.step.length === 1 ? 3 : 0);

  function overSteps(title, names, series, yMore = {}) {
    const shown = series.map((values, i) => ({ values, i })).filter(({ values }) => has(values));
    if (shown.length === 0) return null;
    return {
      type: 'line',
      data: { datasets: shown.map(({ values, i }) => line(names[i], i, { data: points(data.steps.step, values), pointRadius: stepDots() })) },
      options: options(stepAxis(), axis(title, yMore), names.length === 1 || names.length > 16 ? { plugins: { legend: { display: false } } } : {}),
    };
  }

  // Epochs are few, so every one is a tick; a single one stands in the middle.
  function epochAxis() {
    const epochs = data.epochs.epoch;
    const single = epochs.length === 1 ? { min: epochs[0] - 1, max: epochs[0] + 1 } : {};
    return axis('Epoch', { ...single, ticks: { precision: 0, callback: (v) => (Number.isInteger(v) ? v : '') } });
  }

  const charts = {
    loss(task) {
      const datasets = [];
      if (has(data.steps.losses[task])) {
        datasets.push(line('batch', task, { data: points(data.steps.step, data.steps.losses[task]), borderWidth: 1, borderColor: faded(task), borderDash: [], pointRadius: stepDots() }));
      }
      if (has(data.epochs.train_losses[task])) {
        datasets.push(line('epoch mean', task, { data: points(data.epochs.step, data.epochs.train_losses[task]), pointRadius: 3.5, borderWidth: 2, borderDash: [] }));
      }
      if (datasets.length === 0) return null;
      const chart = { type: 'line', data: { datasets }, options: options(stepAxis(), axis('Loss')) };
      chart.options.interaction.mode = 'nearest';
      return chart;
    },

    metric(task) {
      const name = metricChoice.value;
      const series = data.epochs.validation[task].find((m) => m.name === name);
      if (!series || !has(series.values)) return null;
      return {
        type: 'line',
        data: { datasets: [line(metricLabel(name), task, { data: points(data.epochs.epoch, series.values), pointRadius: 3.5, borderWidth: 2, borderDash: [] })] },
        options: options(epochAxis(), axis(`Validation ${metricLabel(name)}`), { plugins: { legend: { display: false } } }),
      };
    },

    calibration(i) {
      const task = data.calibration[i];
      const at = Math.max(0, data.tasks.indexOf(task.task));
      const values = task.bins.flatMap((b) => [b.mean_prediction, b.mean_label]);
      const most = Math.max(...task.bins.map((b) => b.count));
      const least = Math.min(...values);
      const low = least < 0 ? -roundUp(-least) : 0;
      const high = Math.max(...values) > 0 ? roundUp(Math.max(...values)) : low + 1;
      const chart = {
        type: 'scatter',
        data: {
          datasets: [
            line('bins', at, {
              data: task.bins.map((b) => ({ x: b.mean_prediction, y: b.mean_label })), clip: 10,
              pointRadius: task.bins.map((b) => 2.5 + 5.5 * Math.sqrt(b.count / most)),
            }),
            {
              label: 'ideal', type: 'line', data: [{ x: low, y: low }, { x: high, y: high }], borderColor: css('--muted'), borderDash: [4, 4],
              borderWidth: 1, pointRadius: 0, pointHitRadius: 0,
            },
          ],
        },
        options: options(axis('Mean prediction', { min: low, max: high }), axis('Mean label', { min: low, max: high }), {
          plugins: {
            legend: { display: false },
            tooltip: {
              filter: (item) => item.datasetIndex === 0,
              callbacks: {
                title: () => '',
                label: (item) => {
                  const bin = task.bins[item.dataIndex];
                  return [`prediction ${short(bin.mean_prediction)}`, `label ${short(bin.mean_label)}`, `${bin.count} rows`];
                },
              },
            },
          },
        }),
      };
      chart.options.interaction = { mode: 'nearest', intersect: true };
      return chart;
    },

    load(i) {
      const share = data.load[i].share;
      if (!has(share)) return null;
      const equal = 1 / share.length;
      return {
        type: 'bar',
        data: {
          labels: share.map((_, e) => String(e)),
          datasets: [
            { label: 'load', data: share, backgroundColor: colour(0), maxBarThickness: 48 },
            { label: 'equal shares', type: 'line', data: share.map(() => equal), borderColor: css('--text'), borderDash: [4, 4], borderWidth: 1.2, pointRadius: 0 },
          ],
        },
        options: options(axis('Expert', { type: 'category', ticks: { callback: undefined } }), axis('Share', { beginAtZero: true }), {
          plugins: { tooltip: { callbacks: { title: (items) => `Expert ${items[0].label}`, label: (item) => `${item.dataset.label}: ${short(item.parsed.y)}` } } },
        }),
      };
    },

    'load-steps': () => overSteps('Share', data.steps.expert_load.map((_, e) => `expert ${e}`), data.steps.expert_load, { beginAtZero: true }),
    dropped: () => overSteps('Pairs', ['dropped'], [data.steps.dropped_rows], { beginAtZero: true }),
    weights: () => overSteps('Weight', data.tasks, data.steps.weights, { beginAtZero: true }),
    lambda: () => overSteps('Lambda', data.tasks, data.steps.lambda, { beginAtZero: true }),
    norms: () => overSteps('Norm', data.tasks, data.steps.gradient_norms, { type: 'logarithmic', ticks: { callback: logTicks } }),
    cosines: () => overSteps('Cosine', data.steps.cosines.map((p) => p.name), data.steps.cosines.map((p) => p.values), { min: -1, max: 1, ticks: { stepSize: 0.5 } }),
    speed: () => overSteps('Rows a second', ['rows a second'], [data.steps.samples_per_second], { beginAtZero: true }),
    rate: () => overSteps('Learning rate', ['learning rate'], [data.steps.learning_rate], { beginAtZero: true }),
  };

  // Says in place of a chart that there is nothing to draw.
  function undefinedInstead(canvas) {
    let note = canvas.parentElement.querySelector('.missing');
    if (!note) {
      note = document.createElement('p');
      note.className = 'missing';
      canvas.parentElement.append(note);
    }
    note.textContent = canvas.dataset.chart === 'metric'
      ? (metricChoice.value ? `${metricLabel(metricChoice.value)}: undefined for this task` : 'No validation metric has been logged.')
      : 'Undefined: nothing has been measured.';
  }

  Chart.defaults.font.family = getComputedStyle(document.body).fontFamily;

  // A legend of several lines must not take its height from the plot, so the chart grows by what is more than one line.
  Chart.register({
    id: 'legendRoom',
    afterLayout(chart) {
      if (!chart.options.plugins.legend.display) return;
      const more = Math.max(0, Math.round(chart.legend.height) - 34);
      chart.canvas.parentElement.style.height = more > 0 ? `calc(15rem + ${more}px)` : '';
    },
  });

  function draw(canvas) {
    Chart.getChart(canvas)?.destroy();
    const made = charts[canvas.dataset.chart](Number(canvas.dataset.index));
    canvas.hidden = made === null;
    if (made === null) {
      undefinedInstead(canvas);
      return;
    }
    canvas.parentElement.querySelector('.missing')?.remove();
    new Chart(canvas, made);
  }

  const names = [...new Set(data.epochs.validation.flatMap((task) => task.map((m) => m.name)))];
  if (metricChoice) {
    for (const name of names) metricChoice.append(new Option(metricLabel(name), name));
    if (names.length === 0) metricChoice.closest('label').hidden = true;
  }

  const canvases = [...document.querySelectorAll('canvas[data-chart]')];
  const drawn = new Set();
  const drawOnce = (canvas) => {
    if (drawn.has(canvas)) return;
    drawn.add(canvas);
    draw(canvas);
  };
  if (canvases.length <= 40) {
    canvases.forEach(drawOnce);
  } else {
    const near = new IntersectionObserver((entries) => {
      for (const entry of entries) if (entry.isIntersecting) drawOnce(entry.target.firstElementChild);
    }, { rootMargin: '600px' });
    for (const canvas of canvases) near.observe(canvas.parentElement);
  }

  window.addEventListener('beforeprint', () => canvases.forEach(drawOnce));
  dark.addEventListener('change', () => drawn.forEach(draw));
  metricChoice?.addEventListener('change', () => [...drawn].filter((c) => c.dataset.chart === 'metric').forEach(draw));
})();
