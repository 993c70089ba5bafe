// What plays on the meeting page besides slides and webcams. None of it makes up for what sound and picture take on their way.

const FLASH_MS = 120;
const BEEP_S = 0.1;
const OSCILLATOR_HZ = 2400;

function place(area, tag, n) {
  const tile = document.createElement(tag);
  Object.assign(tile.style, { left: "1560px", top: `${20 + 200 * n}px`, width: "320px", height: "180px", background: "#000", objectFit: "fill" });
  area.append(tile);
  return tile;
}

/** Shows one of the contents of meeting.rs. */
export function show(content, area, { token, title }) {
  const sounding = () => fetch(`/standin/sounding?access_token=${encodeURIComponent(token)}`, { method: "POST" });
  switch (content) {
    case "call": case "call-in-one-stream": case "large-call": case "four-calls": return call(content, area, title, sounding);
    case "clip": return clip(area, sounding);
    case "oscillator": return oscillator(area, sounding);
    case "loopback": return loopback(area, sounding);
    case "animation": return animation(area);
  }
}

async function gather(connection) {
  const gathered = new Promise((done) => {
    connection.onicegatheringstatechange = () => connection.iceGatheringState === "complete" && done();
  });
  await connection.setLocalDescription();
  await gathered;
}

/** Sees and hears the guest: <video>s and an <audio>, as the client has them. */
async function call(content, area, title, sounding) {
  const signal = (name) => `/standin/signal?call=${encodeURIComponent(title)}&name=${name}`;
  const connection = new RTCPeerConnection();
  let shown = 0;
  connection.ontrack = ({ track }) => {
    const tile = track.kind === "video" ? place(area, "video", shown++) : area.appendChild(document.createElement("audio"));
    if (content === "large-call") Object.assign(tile.style, { left: "20px", top: "20px", width: "1480px", height: "832px" });
    tile.autoplay = true;
    tile.onplaying = track.kind === "video" ? sounding : null;
    tile.srcObject = new MediaStream([track]);
  };
  await connection.setRemoteDescription(await (await fetch(signal("offer"))).json());
  await gather(connection);
  await fetch(signal("answer"), { method: "POST", body: JSON.stringify(connection.localDescription) });
}

function clip(area, sounding) {
  const video = place(area, "video", 1);
  Object.assign(video, { autoplay: true, playsInline: true, src: "/standin/clip.webm" });
  video.onplaying = sounding;
}

function oscillator(area, sounding) {
  const tile = place(area, "div", 2);
  const context = new AudioContext();
  let next = performance.now() + 1000;
  const beep = () => {
    const at = context.currentTime;
    const tone = new OscillatorNode(context, { frequency: OSCILLATOR_HZ });
    const level = new GainNode(context, { gain: 0.5 });
    level.gain.setValueAtTime(0.5, at + BEEP_S - 0.005);
    level.gain.linearRampToValueAtTime(0, at + BEEP_S);
    tone.connect(level).connect(context.destination);
    tone.start(at);
    tone.stop(at + BEEP_S);
  };
  const frame = () => {
    const now = performance.now();
    if (now >= next) {
      next += 1000;
      beep();
    }
    tile.style.background = now - (next - 1000) < FLASH_MS ? "#fff" : "#000";
    requestAnimationFrame(frame);
  };
  // Opening the sound card may take seconds, in which no time passes for it.
  const begin = () => {
    if (context.currentTime < 0.1) return setTimeout(begin, 20);
    sounding();
    frame();
  };
  begin();
}

/** One canvas, sent by VP8 in the three sizes of a simulcast and shown side by side. */
async function loopback(area, sounding) {
  const canvas = Object.assign(document.createElement("canvas"), { width: 1280, height: 720 });
  const picture = canvas.getContext("2d", { alpha: false });
  let frames = 0;
  setInterval(() => {
    picture.fillStyle = "#246";
    picture.fillRect(0, 0, canvas.width, canvas.height);
    picture.fillStyle = `hsl(${(frames * 3) % 360} 80% 60%)`;
    picture.fillRect((frames++ * 16) % canvas.width, 0, 400, canvas.height);
  }, 40);
  const [sender, receiver] = [new RTCPeerConnection(), new RTCPeerConnection()];
  sender.onicecandidate = ({ candidate }) => receiver.addIceCandidate(candidate);
  receiver.onicecandidate = ({ candidate }) => sender.addIceCandidate(candidate);
  let shown = 0;
  receiver.ontrack = ({ track }) => {
    const tile = place(area, "video", 3);
    Object.assign(tile.style, { left: `${1560 + 107 * shown++}px`, width: "106px" });
    tile.autoplay = true;
    tile.onplaying = sounding;
    tile.srcObject = new MediaStream([track]);
  };
  for (const scaleResolutionDownBy of [4, 2, 1]) {
    const [track] = canvas.captureStream(25).getVideoTracks();
    const transceiver = sender.addTransceiver(track, { direction: "sendonly", sendEncodings: [{ scaleResolutionDownBy }] });
    transceiver.setCodecPreferences(RTCRtpSender.getCapabilities("video").codecs.filter(({ mimeType }) => mimeType === "video/VP8"));
  }
  await sender.setLocalDescription();
  await receiver.setRemoteDescription(sender.localDescription);
  await receiver.setLocalDescription();
  await sender.setRemoteDescription(receiver.localDescription);
}

function animation(area) {
  const style = document.createElement("style");
  style.textContent = `
    .speaker { box-sizing: border-box; border: 6px solid #3c7; animation: speak 1.2s ease-in-out infinite alternate; }
    @keyframes speak { to { border-color: transparent; } }
    .toast { left: 1120px; top: 980px; width: 360px; height: 60px; background: #fff; animation: toast 4s ease-in-out infinite; }
    @keyframes toast { 0%, 100% { transform: translateX(0); opacity: 0; } 15%, 85% { transform: translateX(-40px); opacity: 1; } }`;
  area.append(style);
  const border = place(area, "div", 3);
  border.className = "speaker";
  border.style.background = "none";
  const toast = document.createElement("div");
  toast.className = "toast";
  area.append(toast);
}
