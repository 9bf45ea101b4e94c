"use strict";
// Tells the numbers under the pointer. The plots are complete without it.
(() => {
  const place = (axis, value) => {
    const raw = axis.kind === "linear" ? (value - axis.from) / (axis.to - axis.from)
      : axis.kind === "log" ? Math.log10(Math.max(value, axis.from) / axis.from) / Math.log10(axis.to / axis.from)
        : -Math.log10(Math.max(1 - value, 1e-12)) / axis.to;
    return Math.min(1, Math.max(0, raw));
  };
  const micros = (us) => us >= 1e6 ? `${(us / 1e6).toFixed(2)} s` : us >= 1e4 ? `${(us / 1e3).toFixed(0)} ms`
    : us >= 1e3 ? `${(us / 1e3).toFixed(1)} ms` : `${us.toFixed(0)} µs`;
  const words = {
    count: (value) => value.toLocaleString("en", { maximumFractionDigits: value < 10 ? 1 : 0 }),
    micros,
    seconds: (value) => `${value.toFixed(1)} s`,
    cores: (value) => `${value.toFixed(2)} cores`,
    percent: (value) => `${+(value * 100).toFixed(5)} %`,
  };
  for (const canvas of document.querySelectorAll(".canvas")) {
    const plot = JSON.parse(canvas.dataset.plot);
    const reading = canvas.querySelector(".reading");
    const pointer = document.createElement("div");
    pointer.className = "pointer";
    const places = plot.series.map((series) => series.points.map(([x]) => place(plot.x, x)));
    const nearest = (list, at) => list.reduce((best, x, i) => Math.abs(x - at) < Math.abs(list[best] - at) ? i : best, 0);
    const show = (event) => {
      const box = canvas.getBoundingClientRect();
      const at = (event.clientX - box.left) / box.width;
      const lines = plot.series.map((series, i) => [series, series.points[nearest(places[i], at)], places[i]])
        .filter(([, point]) => point);
      if (!lines.length) return;
      const x = lines[0][1][0];
      pointer.style.left = `${place(plot.x, x) * 100}%`;
      const title = plot.names.length ? plot.names[Math.round(x)] ?? "" : words[plot.x.unit](x);
      reading.textContent = [title, ...lines.map(([series, point]) => `${series.name}: ${words[plot.y.unit](point[1])}`)].join("\n");
      reading.hidden = false;
      canvas.append(pointer);
      reading.style.left = at < 0.5 ? `calc(${at * 100}% + .8rem)` : "auto";
      reading.style.right = at < 0.5 ? "auto" : `calc(${(1 - at) * 100}% + .8rem)`;
    };
    const hide = () => { reading.hidden = true; pointer.remove(); };
    canvas.addEventListener("pointermove", show);
    canvas.addEventListener("pointerdown", show);
    canvas.addEventListener("pointerleave", hide);
  }
  document.documentElement.dataset.reading = "ready";
})();
