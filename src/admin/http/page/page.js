// The page of one node. Every text is set as text: nothing here makes HTML of a string.

const $ = (id) => document.getElementById(id);
const said = { live: null, lists: null };
let build = null, clock = 0, stopped = null, connected = false;

// An element with properties and children; a child that is no node becomes text.
function el(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in node) node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}
// Changes only what differs, so that a selection and the focus stay.
function text(node, value) {
  value = value === null || value === undefined ? "" : String(value);
  if (node.textContent !== value) node.textContent = value;
}
function look(node, className) {
  if (node.className !== className) node.className = className;
}

const share = (value) => (value === null || value === undefined ? "–" : `${Math.round(100 * value)} %`);
const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];
function bytes(count) {
  if (count === null || count === undefined) return "–";
  let unit = 0;
  while (count >= 1024 && unit < UNITS.length - 1) { count /= 1024; unit += 1; }
  return `${count < 10 && unit ? count.toFixed(1) : Math.round(count)} ${UNITS[unit]}`;
}
function time(seconds) {
  if (!(seconds >= 0)) return "–";
  seconds = Math.floor(seconds);
  const two = (number) => String(number).padStart(2, "0");
  const [h, m, s] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  return h ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}
function moment(value) {
  const at = new Date(value);
  return Number.isNaN(at.getTime()) ? "–" : at.toLocaleString([], { dateStyle: "short", timeStyle: "short" });
}
const now = () => Date.now() + clock;

// Keeps the children of `parent` in step with `rows`: one child a key, in order, made once and then changed.
function keep(parent, rows, key, make, change) {
  const before = parent.kept ?? (parent.kept = new Map());
  const wanted = new Set();
  let at = parent.firstElementChild;
  for (const row of rows) {
    let name = key(row);
    while (wanted.has(name)) name += "'";
    wanted.add(name);
    let child = before.get(name);
    if (!child) before.set(name, (child = make(row)));
    change(child, row);
    if (child === at) at = at.nextElementSibling;
    else parent.insertBefore(child, at);
  }
  for (const [name, child] of before) {
    if (!wanted.has(name)) { child.remove(); before.delete(name); }
  }
}

// Fills a table: `columns` are [head, cell class, content of the cell as text, or a function that changes the cell].
function fill(id, columns, rows, key) {
  const table = $(id), section = table.closest("section"), frame = table.parentElement;
  if (!table.tBodies.length) {
    const heads = columns.map(([head]) => (head ? el("th", { scope: "col" }, head) : el("td")));
    table.append(el("thead", {}, el("tr", {}, ...heads)), el("tbody"));
  }
  const make = () => el("tr", {}, ...columns.map(([, name]) => el("td", { className: name })));
  keep(table.tBodies[0], rows, key, make, (tr, row) => {
    tr.row = row;
    columns.forEach(([, , content], at) => {
      const cell = tr.cells[at], value = content(row, cell);
      if (value !== undefined) text(cell, value);
    });
  });
  frame.hidden = rows.length === 0;
  const empty = section.querySelector(".empty");
  if (empty) empty.hidden = rows.length > 0;
}
function count(id, number) { text($(id).querySelector(".count"), number || ""); }

// A cell with a line and a smaller one below it.
function lines(cell, first, second) {
  if (!cell.firstChild) cell.append(el("span", { className: "clip", dir: "auto" }), el("small", { className: "clip", dir: "auto" }));
  text(cell.firstChild, first);
  text(cell.lastChild, second);
  cell.firstChild.title = first ?? "";
  cell.lastChild.title = second ?? "";
  cell.lastChild.hidden = !second;
}
function buttons(cell, wanted) {
  keep(cell, wanted, (one) => one.name, (one) => el("button", { type: "button" }, one.name), (button, one) => {
    button.onclick = one.order;
    button.setAttribute("aria-label", one.label);
  });
}

// --- orders

// How long the node may take for an answer, in ms: longer than the 5 s that it gives an order.
const ANSWER_LIMIT = 8000;

let toastTimer;
function tell(words) {
  text($("toast"), words);
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => text($("toast"), ""), 8000);
}
function confirmed(title, words, yes) {
  const ask = $("ask");
  text($("ask-title"), title);
  text($("ask-text"), words);
  text($("ask-yes"), yes);
  ask.returnValue = "no";
  ask.showModal();
  return new Promise((resolve) => ask.addEventListener("close", () => resolve(ask.returnValue === "yes"), { once: true }));
}
async function order(path, title, words, yes) {
  if (!(await confirmed(title, words, yes))) return;
  try {
    const answer = await fetch(path, { method: "POST", signal: AbortSignal.timeout(ANSWER_LIMIT) });
    tell((await answer.text()).trim() || answer.statusText);
    if (answer.status === 401) connect();
  } catch {
    tell("The node does not answer; nothing is known of the order.");
  }
}
const part = encodeURIComponent;

// --- what runs

function makeCard(one) {
  const number = (name) => el("div", {}, el("dt", {}, name), el("dd"));
  const card = el("article", { className: "card" },
    el("div", { className: "screen" }, el("span"), el("img", { alt: "", hidden: true }),
      el("span", { className: "tag kind" }), el("span", { className: "tag time" })),
    el("div", { className: "level", role: "meter", "aria-label": "Level of the sound in dBFS", "aria-valuemin": "-60", "aria-valuemax": "0" }, el("i")),
    el("div", { className: "about" },
      el("div", {}, el("h3", { className: "room", dir: "auto" }), el("div", { className: "id" })),
      el("dl", { className: "numbers" }, ...["Frames lost", "Silence", "CPU", "Memory", "Size", "Parts"].map(number)),
      el("div", { className: "foot" }, el("span", { className: "state", dir: "auto" }), el("button", { type: "button", className: "danger" }, "Stop"))));
  const find = (name) => card.querySelector(name);
  card.parts = { wait: find(".screen > span"), img: find("img"), kind: find(".kind"), time: find(".time"), level: find(".level"),
    room: find(".room"), id: find(".id"), numbers: [...card.querySelectorAll("dd")], state: find(".state"), stop: find("button") };
  card.parts.room.style.margin = "0";
  card.parts.stop.setAttribute("aria-label", `Stop ${one.kind} ${one.id}`);
  card.parts.stop.onclick = () => order(`/page/recordings/${part(one.kind)}/${part(one.id)}/stop`, `Stop this ${one.kind}?`,
    `${one.room} (${one.id}) ends for everybody. What was recorded is kept, and the server is told that an operator stopped it.`, "Stop it");
  card.parts.img.onload = () => { card.parts.img.hidden = false; };
  card.parts.img.onerror = () => { card.parts.img.hidden = true; };
  return card;
}
function changeCard(card, one) {
  const { live, kept } = one, p = card.parts, lost = one.lost_before + (live ? live.frames_lost : 0);
  card.live = Boolean(live);
  if (!live) p.img.hidden = true;
  text(p.wait, live ? "" : "no picture yet");
  text(p.kind, one.kind);
  text(p.room, one.room);
  p.room.title = one.room;
  p.img.alt = `Picture of ${one.room}`;
  text(p.id, one.id);
  const begun = kept?.parts.find((one) => one.began_at)?.began_at ?? kept?.taken_at;
  text(p.time, begun ? time((now() - begun) / 1000) : live ? time(live.duration_s) : "");
  const level = live?.level_dbfs ?? -60, bar = p.level.firstChild;
  bar.style.width = `${Math.max(0, Math.min(100, (level + 60) / 0.6))}%`;
  look(bar, level > -1 ? "over" : level > -9 ? "high" : "");
  p.level.setAttribute("aria-valuenow", level.toFixed(0));
  p.level.setAttribute("aria-valuetext", live?.level_dbfs == null ? "silence" : `${level.toFixed(0)} dBFS`);
  const set = (at, value, className = "") => { text(p.numbers[at], value); look(p.numbers[at], className); };
  set(0, lost, lost ? "bad" : "");
  set(1, !live ? "–" : live.silent_s >= 10 ? `for ${time(live.silent_s)}` : share(live.silence_share), live?.silent_s >= 60 ? "warn" : "");
  set(2, live?.cpu == null ? "–" : `${live.cpu.toFixed(2)} cores`);
  set(3, bytes(live?.memory));
  set(4, one.kind === "broadcast" ? "–" : bytes(kept?.bytes));
  set(5, kept ? kept.parts.length || "–" : "–", kept?.parts.length > 1 ? "warn" : "");
  const broken = kept?.parts.slice(0, -1).map((part) => part.end).join("; ");
  text(p.state, kept ? kept.says + (broken ? ` (before: ${broken})` : "") : "begins");
  p.stop.disabled = ["stopping", "storing", "storing_failed", "stored", "failed", "hooks_failed"].includes(kept?.state);
}
const of = (one) => `${one.kind}/${one.id}`;

function showRunning() {
  const { live, lists } = said;
  if (!live) return;
  const records = new Map((lists?.recordings?.rows ?? []).map((row) => [of(row), row]));
  const running = live.recordings.map((one) => ({ ...one, kept: records.get(of(one)) }));
  keep($("cards"), running, of, makeCard, changeCard);
  $("no-cards").hidden = running.length > 0;
  text($("n-running"), running.length || "");
  const shown = new Set(running.map(of));
  const kept = [...records.values()].filter((row) => !shown.has(of(row)));
  $("s-kept").hidden = kept.length === 0;
  count("h-kept", kept.length);
  fill("kept", [
    ["Room", "", (row, cell) => lines(cell, row.room ?? row.id, row.room ? row.id : "")],
    ["State", "", (row, cell) => lines(cell, row.says)],
    ["Parts", "num", (row) => row.parts.length],
    ["Size", "num", (row) => bytes(row.bytes)],
  ], kept, of);
}

function showNode({ node }) {
  text($("node-id"), node.id);
  document.title = `${node.running ? `● ${node.running} · ` : ""}${node.id} · plugnmeet-recorder`;
  look($("lamp"), node.running ? "lamp on" : "lamp");
  text($("ready"), node.drained ? "drained" : node.ready ? "ready" : "takes nothing on");
  look($("ready"), `pill ${node.ready ? "ok" : "warn"}`);
  text($("slots"), node.max_limit ? `${node.running} of ${node.max_limit}` : "transcodes only");
  text($("cpu"), share(node.cpu));
  text($("memory"), share(node.memory));
  for (const [id, good, yes, no] of [["nats", node.nats, "connected", "not connected"], ["server", node.server, "answers", "does not answer"]]) {
    text($(id), good ? yes : no);
    look($(id), good ? "ok" : "bad");
  }
  $("gauges").hidden = false;
  $("logout").hidden = !node.has_token;
  const reasons = node.reasons.filter((one) => one.reason !== "full");
  $("reasons").hidden = reasons.length === 0;
  keep($("reasons"), reasons, (one) => one.reason, () => el("li", { dir: "auto" }), (li, one) => text(li, one.detail));
  const drain = $("drain");
  drain.hidden = false;
  text(drain, node.drained ? "Take work again" : "Drain");
  drain.onclick = () => (node.drained
    ? order("/page/undrain", "Take work again?", "The server may choose this node again.", "Take work")
    : order("/page/drain", "Drain this node?", "It takes no new recording and no job. What runs goes on, and the program does not end.", "Drain"));
}

// --- what waits

function showLists(lists) {
  if (lists.error) return tell(lists.error);
  const { jobs, outbox } = lists;
  count("h-jobs", jobs.count);
  fill("jobs", [
    ["Room", "", (row, cell) => lines(cell, row.room ?? row.id, row.room ? row.id : "")],
    ["State", "", (row, cell) => {
      lines(cell, row.says, row.last_error);
      let bar = cell.querySelector("progress");
      if (row.percent != null && !bar) {
        // `lines` changes the first and the last child.
        bar = cell.insertBefore(el("progress", { max: 100, "aria-label": `Progress of ${row.id}` }), cell.lastChild);
      }
      if (bar) { bar.hidden = row.percent == null; bar.value = row.percent ?? 0; }
    }],
    ["", "act", (row, cell) => buttons(cell, [
      ["given_up", "remuxed"].includes(row.state) && { name: "Retry", label: `Retry the job of ${row.id}`, order: () => order(`/page/jobs/${part(row.id)}/retry`, "Try this job again?", `${row.room ?? ""} (${row.id})`, "Retry") },
      ["given_up", "remuxed", "waiting", "undecodable"].includes(row.state) && { name: "Drop", label: `Drop the job of ${row.id}`, order: () => order(`/page/jobs/${part(row.id)}/drop`, "Forget this job?", `${row.room ?? ""} (${row.id}): there will be no MP4 of it. The raw file stays.`, "Forget it") },
    ].filter(Boolean))],
  ], jobs.rows, (row) => row.id);
  count("h-outbox", outbox.count);
  fill("outbox", [
    ["Message", "", (row, cell) => lines(cell, row.letter ?? "unreadable", row.id)],
    ["Why it waits", "", (row, cell) => lines(cell, row.last_error ?? row.says, row.failures ? `${row.failures} attempts; next ${row.next_try ? moment(row.next_try) : "never"}` : "")],
    ["", "act", (row, cell) => buttons(cell, [
      row.letter && { name: "Retry", label: `Retry the messages of ${row.id}`, order: () => order(`/page/outbox/${part(row.id)}/retry`, "Tell it now?", `All that waits of ${row.id} is tried at once.`, "Try now") },
      row.letter && row.letter !== "job" && { name: "Drop", label: `Drop the message ${row.letter} of ${row.id}`, order: () => order(`/page/outbox/${part(row.id)}/drop/${part(row.letter)}`, "Never tell it?", `The server will not be told "${row.letter}" of ${row.id}. Nothing else of it changes.`, "Drop it") },
    ].filter(Boolean))],
  ], outbox.rows, (row) => `${row.id} ${row.letter}`);
}

function showDisks(disks) {
  const make = () => el("li", { className: "disk" }, el("span"), el("span"), el("code"), el("div", { className: "track", hidden: true }, el("i")));
  keep($("disks"), disks, (one) => one.place, make, (li, one) => {
    const [name, free, path, track] = li.children, used = one.total ? 1 - one.free / one.total : 0;
    text(name, one.place);
    text(free, one.error ?? `${bytes(one.free)} free of ${bytes(one.total)}`);
    look(free, one.error || used > 0.97 ? "bad" : used > 0.9 ? "warn" : "");
    text(path, one.path);
    track.hidden = Boolean(one.error);
    track.firstChild.style.width = `${100 * used}%`;
    look(track.firstChild, used > 0.97 ? "bad" : used > 0.9 ? "warn" : "");
  });
}

function showFleet(fleet) {
  const nodes = fleet.nodes ?? [];
  text($("fleet-why"), fleet.error ?? fleet.why);
  count("h-fleet", nodes.length);
  fill("fleet", [
    ["Node", "", (row, cell) => lines(cell, row.id, row.host)],
    ["State", "", (row) => row.state],
    ["Running", "num", (row) => `${row.running ?? "–"} of ${row.max_limit ?? "–"}`],
    ["CPU free", "num", (row) => share(row.cpu_score)],
    ["Last ping", "num", (row) => (row.ping_age_ms == null ? "–" : `${Math.round(row.ping_age_ms / 1000)} s ago`)],
  ], nodes, (row) => row.id);
}

// A line of the log: as text, or as JSON where the log is.
function showLog(log) {
  count("h-log", log.length);
  $("log").parentElement.querySelector(".empty").hidden = log.length > 0;
  const read = (line) => {
    try {
      const { timestamp, level, message, target, ...fields } = JSON.parse(line);
      const rest = Object.entries(fields).map(([name, value]) => `${name}=${value}`).join(" ");
      return `${timestamp} ${String(level).toUpperCase().padStart(5)} ${message} ${rest}`;
    } catch { return line; }
  };
  keep($("log"), [...log].reverse(), (line) => line, () => el("li"), (li, line) => {
    const words = read(line);
    text(li, words);
    look(li, / ERROR /.test(words.slice(0, 40)) ? "error" : "");
  });
}

// --- the connection

const shown = {
  live(live) {
    // The node was upgraded under an open page.
    if (build && build !== live.build) return location.reload();
    build = live.build;
    clock = live.now - Date.now();
    said.live = live;
    showNode(live);
    showRunning();
  },
  lists(lists) {
    said.lists = lists;
    showRunning();
    showLists(lists);
  },
  disks: showDisks,
  finished: (list) => showFinished(list),
  fleet: showFleet,
  log: showLog,
};

function only(id) {
  for (const other of ["view", "login", "denied"]) $(other).hidden = other !== id;
  if (id !== "view") for (const other of ["gauges", "drain", "logout", "reasons"]) $(other).hidden = true;
}

// How long the node may be silent, in ms: it tells something each second.
const SILENCE_LIMIT = 5000;
// Reads events until the node ends them, is silent, or nobody looks.
async function read(answer, stop) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "", timer;
  for (;;) {
    clearTimeout(timer);
    timer = setTimeout(() => stop.abort(), SILENCE_LIMIT);
    const { value, done } = await reader.read();
    if (done) { clearTimeout(timer); return; }
    const events = (rest + value).split("\n\n");
    rest = events.pop();
    for (const event of events) {
      const [, name, data] = /^event: (\w+)\ndata: (.*)$/s.exec(event) ?? [];
      if (name in shown) shown[name](JSON.parse(data));
    }
  }
}

let run = 0;
async function connect() {
  const mine = ++run;
  stopped?.abort();
  for (let wait = 1000; mine === run && !document.hidden; wait = Math.min(2 * wait, 5000)) {
    const stop = (stopped = new AbortController());
    try {
      // A node that is stopped takes the connection and says nothing.
      const limit = setTimeout(() => stop.abort(), ANSWER_LIMIT);
      const answer = await fetch("/page/events", { signal: stop.signal, cache: "no-store" }).finally(() => clearTimeout(limit));
      if (mine !== run) return;
      if (answer.status === 401) {
        connected = false;
        text($("ready"), "log in");
        look($("ready"), "pill");
        text($("link"), "");
        only("login");
        $("token").focus();
        return;
      }
      if (answer.status === 403) {
        text($("denied-why"), await answer.text());
        text($("ready"), "closed");
        only("denied");
        return;
      }
      if (answer.ok) {
        connected = true;
        wait = 500;
        only("view");
        text($("link"), "");
        await read(answer, stop);
      } else {
        text($("link"), (await answer.text()).trim());
      }
    } catch { /* It does not answer: told below, and tried again. */ }
    connected = false;
    if (mine !== run || document.hidden) return;
    text($("link"), "no answer from the node; trying again …");
    await new Promise((resolve) => setTimeout(resolve, wait));
  }
}

// One picture of each recording a second, or of many every two.
let looks = 0;
function lookAt() {
  const cards = [...$("cards").children];
  looks += 1;
  if (!connected || document.hidden || $("view").hidden || (cards.length > 2 && looks % 2)) return;
  for (const card of cards) {
    const { img } = card.parts, box = card.getBoundingClientRect();
    const seen = box.bottom > 0 && box.top < innerHeight;
    if (card.live && seen && (img.complete || !img.src)) {
      const [kind, id] = [card.parts.kind.textContent, card.parts.id.textContent];
      img.src = `/page/recordings/${part(kind)}/${part(id)}/thumbnail?${Date.now()}`;
    }
  }
}

$("login-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const field = $("token"), token = field.value.trim();
  text($("login-why"), "");
  try {
    const answer = await fetch("/page/login", { method: "POST", headers: { Authorization: `Bearer ${token}` }, signal: AbortSignal.timeout(ANSWER_LIMIT) });
    if (!answer.ok) return text($("login-why"), (await answer.text()).trim());
    field.value = "";
    connect();
  } catch {
    text($("login-why"), "The node does not answer, or the token holds characters that no token has.");
  }
});
$("logout").onclick = async () => {
  await fetch("/page/logout", { method: "POST" }).catch(() => {});
  connect();
};
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) return connect();
  run += 1;
  connected = false;
  stopped?.abort();
});
setInterval(lookAt, 1000);
