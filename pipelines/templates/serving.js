"use strict";
const facts = JSON.parse(document.getElementById("facts").textContent);
const [height, width, channels] = facts.shape;
const form = document.getElementById("ask"), sheet = document.getElementById("sheet");
const said = document.getElementById("said"), look = document.getElementById("look");
const can = (task) => facts.tasks.includes(task);
const looks = ["score", "reconstruct", "encode", "complete", "translate"].filter(can);
sheet.classList.toggle("looks", looks.length > 0);

const make = (name, attributes = {}, ...children) => {
  const element = document.createElement(name);
  Object.assign(element, attributes);
  element.append(...children);
  return element;
};
const source = (image) => `data:image/png;base64,${image}`;

async function ask(rows, params = {}) {
  const reply = await fetch("/invocations", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ dataframe_records: rows, params }),
  });
  const answer = await reply.json();
  if (!reply.ok) throw new Error(answer.message);
  return answer.predictions;
}

function tell(text, wrong = false) {
  said.textContent = text;
  said.classList.toggle("wrong", wrong);
}

/* ---- drawing ---- */

const wanted = () => {
  const row = { task: "sample", count: Number(form.count.value) };
  if (form.label && form.label.value !== "") row.label = Number(form.label.value);
  return [[row], { seed: Number(form.seed.value), temperature: Number(form.temperature.value) }];
};

async function draw() {
  const [rows, params] = wanted(), buttons = form.querySelectorAll("button");
  buttons.forEach((button) => (button.disabled = true));
  const began = performance.now();
  try {
    const [{ images }] = await ask(rows, params);
    sheet.replaceChildren(
      ...images.map((image, i) => {
        const picture = make("img", { src: source(image), alt: `sample ${i + 1}`, width, height });
        const button = make("button", { type: "button", disabled: !looks.length }, picture);
        button.addEventListener("click", () => examine(image, button));
        return button;
      }),
    );
    const seconds = ((performance.now() - began) / 1000).toFixed(2);
    tell(`${images.length} images in ${seconds} s, not selected.`);
  } catch (error) {
    tell(error.message, true);
  }
  buttons.forEach((button) => (button.disabled = false));
}

/* ---- looking closer: whatever the model can say about one image ---- */

const figure = (src, caption) =>
  make("figure", {}, make("img", { src, alt: caption, width, height }), make("figcaption", {}, caption));

function bars(code) {
  const space = "http://www.w3.org/2000/svg", svg = document.createElementNS(space, "svg");
  const largest = Math.max(...code.map(Math.abs), 1e-9);
  svg.setAttribute("viewBox", `0 -1 ${code.length} 2`);
  svg.setAttribute("preserveAspectRatio", "none");
  code.forEach((value, i) => {
    const rect = document.createElementNS(space, "rect"), size = Math.abs(value) / largest;
    for (const [key, v] of Object.entries({ x: i + 0.1, y: value > 0 ? -size : 0, width: 0.8, height: size })) rect.setAttribute(key, v);
    svg.append(rect);
  });
  return make("div", { className: "bars" }, svg);
}

const topHalf = () => Array.from({ length: height }, (_, i) => Array(width).fill(i < height / 2 ? 1 : 0));

async function examine(image, button) {
  sheet.querySelectorAll("[aria-pressed]").forEach((b) => b.removeAttribute("aria-pressed"));
  if (button) button.setAttribute("aria-pressed", "true");
  const shown = typeof image === "string" ? source(image) : pictured(image);
  try {
    const rows = looks.map((task) => (task === "complete" ? { task, image, mask: topHalf() } : { task, image }));
    const seed = form.seed ? Number(form.seed.value) : 0;
    const answers = Object.fromEntries((await ask(rows, { seed })).map((answer, i) => [looks[i], answer]));
    const pair = make("div", { className: "pair" }, figure(shown, "the image"));
    for (const [task, caption] of [["reconstruct", "reconstructed from its code"], ["complete", "lower half redrawn"], ["translate", "translated"]])
      if (answers[task]) pair.append(figure(source(answers[task].image), caption));
    look.replaceChildren(pair);
    if (answers.score) {
      const { nats, bits_per_dim, estimator, kind } = answers.score;
      const sign = { exact: "", "lower bound": "≥ ", estimate: "≈ " }[kind] ?? "";
      const number = (value, digits) => (value === null ? "−∞" : sign + value.toFixed(digits).replace("-", "−"));
      const list = make("dl", { className: "facts" });
      for (const [name, value] of [["log p(x), nats", number(nats, 2)], ["bits per dim", bits_per_dim === null ? "∞" : bits_per_dim.toFixed(3).replace("-", "−")], ["estimator", estimator], ["kind", kind]])
        list.append(make("div", {}, make("dt", {}, name), make("dd", {}, value)));
      look.append(list);
    }
    if (answers.encode)
      look.append(make("div", { className: "facts" }, make("div", {}, make("dt", {}, `code, ${answers.encode.code.length} numbers`))), bars(answers.encode.code));
  } catch (error) {
    tell(error.message, true);
  }
}

/* ---- an image from a file: the middle of it, at the model's size ---- */

function canvas() {
  return make("canvas", { width, height });
}

function pictured(pixels) {
  const paper = canvas(), context = paper.getContext("2d"), data = context.createImageData(width, height);
  pixels.flat().forEach((pixel, i) => {
    const [r, g, b] = pixel.length === 3 ? pixel : [pixel[0], pixel[0], pixel[0]];
    data.data.set([r, g, b, 255], 4 * i);
  });
  context.putImageData(data, 0, 0);
  return paper.toDataURL();
}

async function open(file) {
  try {
    const bitmap = await createImageBitmap(file), scale = Math.max(width / bitmap.width, height / bitmap.height);
    const context = canvas().getContext("2d");
    context.imageSmoothingQuality = "high";
    context.drawImage(bitmap, (width - bitmap.width * scale) / 2, (height - bitmap.height * scale) / 2, bitmap.width * scale, bitmap.height * scale);
    const { data } = context.getImageData(0, 0, width, height);
    const pixel = (i) => {
      const [r, g, b] = data.subarray(4 * i, 4 * i + 3);
      return channels === 3 ? [r, g, b] : Array(channels).fill(Math.round(0.299 * r + 0.587 * g + 0.114 * b));
    };
    await examine(Array.from({ length: height }, (_, y) => Array.from({ length: width }, (_, x) => pixel(y * width + x))));
  } catch (error) {
    tell(`This file cannot be shown as an image: ${error.message}`, true);
  }
}

/* ---- the same from a program ---- */

function program() {
  const [rows, params] = form.count ? wanted() : [[{ task: facts.tasks[0], image: "iVBORw0KGgo... (base64 PNG)" }], { seed: 0 }];
  const body = JSON.stringify({ dataframe_records: rows, params });
  document.getElementById("curl").textContent =
    `curl ${location.origin}/invocations -H 'Content-Type: application/json' \\\n  -d '${body}'`;
}

program();
form.addEventListener("input", program);
form.addEventListener("submit", (event) => { event.preventDefault(); draw(); });
document.getElementById("again")?.addEventListener("click", () => { form.seed.value = Number(form.seed.value) + 1; program(); draw(); });
document.getElementById("file")?.addEventListener("change", (event) => event.target.files[0] && open(event.target.files[0]));
if (can("sample")) draw();
