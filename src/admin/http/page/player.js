
// --- what was recorded

const PICTURES = 12;
let playing = 0;

function showFinished(list) {
  const rows = list.rows ?? [];
  if (list.error) tell(list.error);
  count("h-finished", list.count);
  const lost = (row) => (row.frames_dropped ?? 0) + (row.frames_late ?? 0);
  fill("finished", [
    ["Ended", "num", (row) => moment(row.ended_at)],
    ["Room", "", (row, cell) => lines(cell, row.room_id, row.id)],
    ["Length", "num", (row) => time(row.duration_s)],
    ["Outcome", "", (row, cell) => lines(cell, row.outcome, row.cause)],
    ["Lost", "num", (row, cell) => { look(cell, lost(row) ? "num bad" : "num"); return lost(row); }],
    ["Silent", "num", (row) => share(row.silence_share)],
    ["Black", "num", (row) => share(row.black_share)],
    ["MP4", "num", (row) => bytes(row.video_bytes)],
    ["", "act", (row, cell) => buttons(cell, [{
      name: row.video_bytes == null ? "Summary" : "Play",
      label: `${row.video_bytes == null ? "Summary" : "Play"} of ${row.id}`,
      order: () => play(row),
    }])],
  ], rows, (row) => row.id);
}

const next = (target, name, failure = "error") => new Promise((resolve, reject) => {
  target.addEventListener(name, resolve, { once: true });
  target.addEventListener(failure, () => reject(new Error(failure)), { once: true });
});

async function play(row) {
  const mine = ++playing, video = $("video"), has = row.video_bytes != null;
  text($("player-title"), `${row.room_id ?? row.id} · ${moment(row.started_at ?? row.ended_at)}`);
  $("strip").replaceChildren();
  $("facts").replaceChildren();
  video.hidden = !has;
  $("no-video").hidden = has;
  $("player").showModal();
  facts(row.id, mine);
  if (!has) return;
  const source = `/page/finished/${part(row.id)}/video`;
  video.src = source;
  try {
    await strip(source, video, mine);
  } catch {
    // The video says itself what is wrong with it.
  }
}

// Pictures at equal distances, made here of the video itself.
async function strip(source, video, mine) {
  const maker = el("video", { muted: true, preload: "auto" });
  try {
    const ready = next(maker, "loadeddata");
    maker.src = source;
    await ready;
    const [width, height] = [196, Math.round(196 * maker.videoHeight / Math.max(1, maker.videoWidth)) || 110];
    for (let at = 0; at < PICTURES && mine === playing; at += 1) {
      const second = maker.duration * (at + 0.5) / PICTURES, there = next(maker, "seeked");
      maker.currentTime = second;
      await there;
      if (mine !== playing) return;
      const canvas = el("canvas", { width, height });
      canvas.getContext("2d").drawImage(maker, 0, 0, width, height);
      const button = el("button", { type: "button", "aria-label": `Go to ${time(second)}` }, canvas, el("span", {}, time(second)));
      button.onclick = () => { video.currentTime = second; video.focus(); };
      $("strip").append(el("li", {}, button));
    }
  } finally {
    // Its connection is closed at once.
    maker.removeAttribute("src");
    maker.load();
  }
}

async function facts(id, mine) {
  const answer = await fetch(`/page/finished/${part(id)}/summary`).catch(() => null);
  if (mine !== playing) return;
  const summary = answer?.ok ? await answer.json() : { summary: answer ? (await answer.text()).trim() : "the node does not answer" };
  if (mine !== playing) return;
  const words = (name, value) => {
    if (value === null) return "–";
    if (name.endsWith("_share")) return share(value);
    if (name === "bytes") return bytes(value);
    if (name.endsWith("_at")) return new Date(value).toLocaleString();
    if (name === "gaps") return value.length ? value.map((gap) => `${gap.length_s ?? "?"} s`).join(", ") : "none";
    return typeof value === "object" ? JSON.stringify(value) : String(value);
  };
  const rows = Object.entries(summary).filter(([, value]) => value !== "");
  $("facts").replaceChildren(...rows.map(([name, value]) =>
    el("div", {}, el("dt", {}, name.replaceAll("_", " ")), el("dd", { dir: "auto" }, words(name, value)))));
}

$("player").addEventListener("close", () => {
  playing += 1;
  const video = $("video");
  video.pause();
  video.removeAttribute("src");
  video.load();
});
$("player-close").onclick = () => $("player").close();

connect();
