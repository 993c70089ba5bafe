// Keeps the picture of WebRTC calls in step with their sound. Runs in every document before the page's own code.
//
// The sound of a call is delayed by its jitter buffer and by the playout buffer, its picture hardly at all. If both are in
// one MediaStream, Chrome synchronises them within half a minute; if each track has its own stream (LiveKit's default),
// it does not. So this script delays the picture: once a second it sets jitterBufferTarget of the picture's receivers
// from the delays in getStats.
//
// The page must not notice: classes and accessors keep their names, prototypes and results (only
// Function.prototype.toString shows them without a name). No error of this script may reach the page.
(() => {
  'use strict';
  const tell = globalThis.BINDING;
  delete globalThis.BINDING;
  const Native = globalThis.RTCPeerConnection;
  const target = Object.getOwnPropertyDescriptor(globalThis.RTCRtpReceiver?.prototype ?? {}, 'jitterBufferTarget');
  if (!Native || !target) return;
  const { setInterval, clearInterval, WeakRef, Map, WeakMap, Proxy, JSON } = globalThis;
  const { construct, apply } = Reflect;

  /** How often the delays are read. */
  const EVERY_MS = 1000;
  /** Time from decoding to display: half a frame of Chrome's compositor. (With a whole frame the sound stayed 20 ms late.) */
  const COMPOSING_MS = 8;
  /**
   * Initial delay of a picture: the delay of a call's sound in its first second (45 ms of jitter, 35 of playout). Chrome
   * applies it at once before the first picture, and later only by 100 ms per second.
   */
  const FIRST_MS = 80;
  /** A difference up to this is not corrected… */
  const TOLERANCE_MS = 4;
  /** …and a larger one by this much per second: playing 5 % slower or faster is not visible. */
  const STEP_MS = 50;
  /** Longest delay. */
  const LIMIT_MS = 1000;

  /** @type {Set<WeakRef<RTCPeerConnection>>} */
  const calls = new Set();
  /** Counters of the last sample, by connection and then by report id. */
  const counted = new WeakMap();
  /** The stream that each receiver's track came in. */
  const streams = new WeakMap();
  /** Delay of a receiver: { own, held }, its delay before this script and its current target. */
  const held = new WeakMap();
  /** Targets set by the page. */
  const wanted = new WeakMap();
  let timer = null;

  /** Mean delay in milliseconds of samples (or frames) since the last sample of the counters; null without any. */
  function wait(before, report, total, count) {
    const key = `${report.id} ${total}`;
    const [time, number] = before.get(key) ?? [0, 0];
    before.set(key, [report[total], report[count]]);
    return report[count] > number ? ((report[total] - time) / (report[count] - number)) * 1000 : null;
  }

  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
  /** LiveKit's stream ids are `participant|track`. */
  const participant = (stream) => stream?.split('|')[0];

  /** The sounds that belong to a picture: those of its stream, else of its participant, else all of the call. */
  function soundOf(picture, sounds) {
    const same = sounds.filter((sound) => sound.stream && sound.stream === picture.stream);
    if (same.length) return { sounds: same, together: true };
    const near = sounds.filter((sound) => sound.stream && participant(sound.stream) === participant(picture.stream));
    return { sounds: near.length ? near : sounds, together: false };
  }

  /** Milliseconds by which the sound is later than the picture. */
  function lateness(picture, { sounds, together }, playout) {
    // Within one stream Chrome synchronises by these timestamps; another target here would never settle.
    const shown = together ? picture.shown - sounds[0].shown : NaN;
    if (Number.isFinite(shown)) return shown - COMPOSING_MS;
    return mean(sounds.map((sound) => sound.delay)) + playout - picture.delay - COMPOSING_MS;
  }

  /** Adjusts the delay of one picture; returns lateness and delay. */
  function steer(receiver, picture, sound, playout) {
    const late = lateness(picture, sound, playout);
    const state = held.get(receiver) ?? { own: picture.delay, held: null };
    if (Math.abs(late) > TOLERANCE_MS) {
      const step = Math.max(-STEP_MS, Math.min(STEP_MS, late * 0.7));
      const next = Math.max(0, Math.min(LIMIT_MS, (state.held ?? picture.delay) + step));
      // A picture that is late by itself is not delayed further.
      if (state.held !== null || next > picture.delay) {
        state.held = next;
        apply(target.set, receiver, [Math.max(next, wanted.get(receiver) ?? 0)]);
      }
    }
    held.set(receiver, state);
    return { late, held: state.held === null ? 0 : Math.max(0, state.held - state.own) };
  }

  async function sample(call) {
    const receivers = call.getReceivers().filter(({ track }) => track?.readyState === 'live');
    const kinds = new Set(receivers.map(({ track }) => track.kind));
    if (!kinds.has('audio') || !kinds.has('video')) return [];
    const before = counted.get(call);
    const [sounds, pictures] = [[], new Map()];
    let playout = null;
    const by = new Map(receivers.map((receiver) => [receiver.track.id, receiver]));
    for (const report of (await call.getStats()).values()) {
      if (report.type === 'media-playout') playout = wait(before, report, 'totalPlayoutDelay', 'totalSamplesCount');
      if (report.type !== 'inbound-rtp') continue;
      const delay = wait(before, report, 'jitterBufferDelay', 'jitterBufferEmittedCount');
      const receiver = by.get(report.trackIdentifier);
      if (delay === null || !receiver) continue;
      const media = { delay, shown: report.estimatedPlayoutTimestamp || NaN, stream: streams.get(receiver) };
      if (report.kind === 'audio') sounds.push(media);
      else pictures.set(receiver, media);
    }
    // Without sound nothing is changed.
    if (playout === null || !sounds.length) return [];
    return [...pictures].map(([receiver, picture]) => steer(receiver, picture, soundOf(picture, sounds), playout));
  }

  async function sampleAll() {
    const found = [];
    for (const reference of calls) {
      const call = reference.deref();
      if (!call || call.connectionState === 'closed') calls.delete(reference);
      else found.push(...(await sample(call).catch(() => [])));
    }
    if (!calls.size) {
      clearInterval(timer);
      timer = null;
    }
    if (found.length) {
      const [late, back] = [mean(found.map(({ late }) => late)), mean(found.map(({ held }) => held))];
      tell?.(JSON.stringify({ pictures: found.length, late_ms: late, held_ms: back }));
    }
  }

  function begin(receiver) {
    if (held.has(receiver)) return;
    held.set(receiver, { own: 0, held: FIRST_MS });
    apply(target.set, receiver, [Math.max(FIRST_MS, wanted.get(receiver) ?? 0)]);
  }

  let sampling = false;
  function watch(call) {
    calls.add(new WeakRef(call));
    counted.set(call, new Map());
    call.addEventListener('track', ({ receiver, track, streams: [stream] }) => {
      streams.set(receiver, stream?.id);
      try {
        if (track.kind === 'video') begin(receiver);
      } catch {}
    });
    timer ??= setInterval(() => {
      if (sampling) return;
      sampling = true;
      sampleAll().catch(() => {}).finally(() => { sampling = false; });
    }, EVERY_MS);
  }

  const Shown = new Proxy(Native, {
    construct(native, args, made) {
      const call = construct(native, args, made === Shown ? native : made);
      try {
        watch(call);
      } catch {}
      return call;
    },
  });
  const put = (object, name, changed) =>
    Object.defineProperty(object, name, { ...Object.getOwnPropertyDescriptor(object, name), ...changed });
  put(Native.prototype, 'constructor', { value: Shown });
  for (const name of ['RTCPeerConnection', 'webkitRTCPeerConnection']) {
    if (globalThis[name] === Native) put(globalThis, name, { value: Shown });
  }
  // The page reads the target that it has set, and gets at least that delay.
  put(globalThis.RTCRtpReceiver.prototype, 'jitterBufferTarget', {
    get: new Proxy(target.get, {
      apply: (get, receiver, args) =>
        held.get(receiver)?.held == null ? apply(get, receiver, args) : (wanted.get(receiver) ?? null),
    }),
    set: new Proxy(target.set, {
      apply(set, receiver, [value]) {
        apply(set, receiver, [value]);
        const own = apply(target.get, receiver, []);
        wanted.set(receiver, own);
        const back = held.get(receiver)?.held ?? null;
        if (back !== null && back > (own ?? 0)) apply(set, receiver, [back]);
      },
    }),
  });
})();
