//! The boxes of a fragmented MP4 of one track (ISO/IEC 14496-12): what its codec is called, and when each fragment plays.
//! Pure.

/// What the `moov` of a track says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackHeader {
    /// Its name in `CODECS` (RFC 6381): `avc1.64001f`, `mp4a.40.2`.
    pub codec: String,
    /// Ticks a second of its times.
    pub timescale: u32,
    /// Pixels; 0 of a sound.
    pub width: u32,
    pub height: u32,
    /// Of a sound; 0 of a picture.
    pub channels: u32,
    /// Duration, in ticks, of samples that state none.
    default_duration: u32,
}

/// When a fragment plays, in ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FragmentTime {
    pub begin: u64,
    pub duration: u64,
    /// Some of its samples are shown at another time than they are decoded.
    pub reordered: bool,
}

/// Length of a box's header: its size and its name.
pub const BOX_HEADER: usize = 8;
/// Length of one whose size does not fit into 32 bits.
pub const LARGE_BOX_HEADER: usize = 16;

/// The name of a box and its length with its header, from its first [`LARGE_BOX_HEADER`] bytes, or all of it where it is
/// shorter. `None`: it is none, or one that lasts to the end of the file, which ffmpeg does not write.
#[must_use]
pub fn box_header(bytes: &[u8]) -> Option<([u8; 4], u64)> {
    let name = bytes.get(4..8)?.try_into().ok()?;
    let (length, header) = match u32_at(bytes, 0)? {
        1 => (u64_at(bytes, 8)?, LARGE_BOX_HEADER),
        length => (u64::from(length), BOX_HEADER),
    };
    (length >= header as u64).then_some((name, length))
}

/// Reads the content of a `moov` box with one track.
///
/// # Errors
/// What is missing.
pub fn track_header(moov: &[u8]) -> Result<TrackHeader, &'static str> {
    let trak = find(moov, &[b"trak"]).ok_or("it has no track")?;
    let mdhd = find(trak, &[b"mdia", b"mdhd"]).ok_or("its track has no time scale")?;
    let at = if mdhd.first() == Some(&1) { 20 } else { 12 };
    let timescale = u32_at(mdhd, at).filter(|scale| *scale > 0).ok_or("its track has no time scale")?;
    let stsd = find(trak, &[b"mdia", b"minf", b"stbl", b"stsd"]).ok_or("its track has no codec")?;
    let trex = find(moov, &[b"mvex", b"trex"]).ok_or("it is not in fragments")?;
    let default_duration = u32_at(trex, 12).ok_or("it is not in fragments")?;
    let header = TrackHeader { codec: String::new(), timescale, width: 0, height: 0, channels: 0, default_duration };
    // Behind version, flags and the number of entries.
    let entries = stsd.get(8..).ok_or("its track has no codec")?;
    if let Some(entry) = find(entries, &[b"avc1"]) {
        let size = |at: usize| u16_at(entry, at).map(u32::from).ok_or("its picture has no size");
        let avcc = entry.get(78..).and_then(|boxes| find(boxes, &[b"avcC"])).ok_or("its picture has no avcC")?;
        let [profile, constraints, level] = avcc.get(1..4).ok_or("its avcC is too short")? else {
            return Err("its avcC is too short");
        };
        let codec = format!("avc1.{profile:02x}{constraints:02x}{level:02x}");
        return Ok(TrackHeader { codec, width: size(24)?, height: size(26)?, ..header });
    }
    let entry = find(entries, &[b"mp4a"]).ok_or("its codec is neither H.264 nor AAC")?;
    let channels = u16_at(entry, 16).map(u32::from).ok_or("its sound has no channels")?;
    let esds = entry.get(28..).and_then(|boxes| find(boxes, &[b"esds"])).ok_or("its sound has no esds")?;
    let object_type = object_type(esds).ok_or("its esds says nothing of the codec")?;
    Ok(TrackHeader { codec: format!("mp4a.40.{object_type}"), channels, ..header })
}

/// Reads the content of a `moof` box with one track.
///
/// # Errors
/// What is missing.
pub fn fragment_time(moof: &[u8], header: &TrackHeader) -> Result<FragmentTime, &'static str> {
    const BROKEN: &str = "a fragment has no times";
    let traf = find(moof, &[b"traf"]).ok_or(BROKEN)?;
    let tfdt = find(traf, &[b"tfdt"]).ok_or(BROKEN)?;
    let begin = match tfdt.first() {
        Some(1) => u64_at(tfdt, 4),
        _ => u32_at(tfdt, 4).map(u64::from),
    };
    let tfhd = find(traf, &[b"tfhd"]).ok_or(BROKEN)?;
    let default = default_duration(tfhd).unwrap_or(header.default_duration);
    let mut time = FragmentTime { begin: begin.ok_or(BROKEN)?, duration: 0, reordered: false };
    for trun in boxes(traf).filter(|(name, _)| name == b"trun").map(|(_, content)| content) {
        add_run(&mut time, trun, default).ok_or(BROKEN)?;
    }
    Ok(time)
}

/// Has the last sample of a `moof` with one track last so many ticks longer. False: it states no duration of its own, and
/// nothing is changed.
#[must_use]
pub fn lengthen_last_sample(moof: &mut [u8], by: u32) -> bool {
    let Some(at) = last_duration(moof) else { return false };
    let Some(longer) = u32_at(moof, at).and_then(|duration| duration.checked_add(by)) else { return false };
    moof[at..at + 4].copy_from_slice(&longer.to_be_bytes());
    true
}

/// Where the duration of the last sample is stated.
fn last_duration(moof: &[u8]) -> Option<usize> {
    let traf = find(moof, &[b"traf"])?;
    let trun = boxes(traf).filter(|(name, _)| name == b"trun").last()?.1;
    let (flags, count) = (u32_at(trun, 0)?, usize::try_from(u32_at(trun, 4)?).ok()?);
    let place = |content: &[u8], at: usize| content.as_ptr() as usize - moof.as_ptr() as usize + at;
    let has = |flag: u32| usize::from(flags & flag != 0);
    if has(0x100) == 1 {
        let fields = has(0x100) + has(0x200) + has(0x400) + has(0x800);
        return Some(place(trun, 8 + 4 * (has(0x1) + has(0x4)) + 4 * fields * count.checked_sub(1)?));
    }
    // That of a fragment is its own where it is the only one.
    let tfhd = find(traf, &[b"tfhd"]).filter(|_| count == 1)?;
    default_duration(tfhd)?;
    let before = [(0x1, 8), (0x2, 4)].iter().filter(|(flag, _)| u32_at(tfhd, 0).is_some_and(|flags| flags & flag != 0));
    Some(place(tfhd, 8 + before.map(|(_, length)| length).sum::<usize>()))
}

/// The duration of a `tfhd` for samples that state none.
fn default_duration(tfhd: &[u8]) -> Option<u32> {
    let flags = u32_at(tfhd, 0)?;
    let before = [(0x1, 8), (0x2, 4)].iter().filter(|(flag, _)| flags & flag != 0).map(|(_, length)| length);
    (flags & 0x8 != 0).then(|| u32_at(tfhd, 8 + before.sum::<usize>()))?
}

/// Adds the samples of a `trun`.
fn add_run(time: &mut FragmentTime, trun: &[u8], default: u32) -> Option<()> {
    let (flags, count) = (u32_at(trun, 0)?, u32_at(trun, 4)?);
    let has = |flag: u32| flags & flag != 0;
    let mut at = 8 + 4 * (usize::from(has(0x1)) + usize::from(has(0x4)));
    for _ in 0..count {
        let mut next = |there: bool| {
            let value = if there { Some(u32_at(trun, at)?) } else { None };
            at += if there { 4 } else { 0 };
            Some(value)
        };
        let duration = next(has(0x100))?;
        next(has(0x200))?;
        next(has(0x400))?;
        let offset = next(has(0x800))?;
        time.duration += u64::from(duration.unwrap_or(default));
        time.reordered |= offset.is_some_and(|offset| offset != 0);
    }
    Some(())
}

/// The audio object type of an `esds` (ISO/IEC 14496-1, 7.2.6; 14496-3, 1.6.2.1): 2 is AAC-LC.
fn object_type(esds: &[u8]) -> Option<u8> {
    /// `DecSpecificInfoTag`.
    const SPECIFIC: u8 = 5;
    let mut at = 4;
    loop {
        let tag = *esds.get(at)?;
        at += 1;
        let mut length = 0_usize;
        loop {
            let byte = *esds.get(at)?;
            at += 1;
            length = length << 7 | usize::from(byte & 0x7f);
            if byte & 0x80 == 0 {
                break;
            }
        }
        at += match tag {
            // Its content begins with an id, and flags.
            3 => 3,
            // With the codec, the stream's type, its buffer and its bit rates.
            4 => 13,
            SPECIFIC => {
                let bits = u16_at(esds, at)?;
                let object_type = u8::try_from(bits >> 11).ok()?;
                // 31: the number goes on in the next six bits.
                return Some(if object_type == 31 { 32 + u8::try_from(bits >> 5 & 0x3f).ok()? } else { object_type });
            }
            _ => length,
        };
    }
}

/// The content of the first box of this path.
fn find<'a>(content: &'a [u8], path: &[&[u8; 4]]) -> Option<&'a [u8]> {
    let Some((first, rest)) = path.split_first() else { return Some(content) };
    let (_, inner) = boxes(content).find(|(name, _)| name == *first)?;
    find(inner, rest)
}

/// The boxes that lie one behind the other.
fn boxes(content: &[u8]) -> impl Iterator<Item = ([u8; 4], &[u8])> {
    let mut rest = content;
    std::iter::from_fn(move || {
        let (name, length) = box_header(rest)?;
        let length = usize::try_from(length).ok()?;
        let header = if u32_at(rest, 0) == Some(1) { LARGE_BOX_HEADER } else { BOX_HEADER };
        let inner = rest.get(header..length)?;
        rest = &rest[length..];
        Some((name, inner))
    })
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boxed(name: [u8; 4], content: &[u8]) -> Vec<u8> {
        let length = u32::try_from(content.len() + BOX_HEADER).unwrap();
        [&length.to_be_bytes()[..], &name, content].concat()
    }

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_be_bytes()).collect()
    }

    fn header(default_duration: u32) -> TrackHeader {
        TrackHeader { codec: String::new(), timescale: 1000, width: 0, height: 0, channels: 0, default_duration }
    }

    fn moov(entry: &[u8]) -> Vec<u8> {
        let stsd = boxed(*b"stsd", &[words(&[0, 1]), entry.to_vec()].concat());
        let minf = boxed(*b"minf", &boxed(*b"stbl", &stsd));
        let mdia = [boxed(*b"mdhd", &words(&[0, 0, 0, 90_000, 0])), minf].concat();
        let trex = boxed(*b"mvex", &boxed(*b"trex", &words(&[0, 1, 1, 40, 0, 0])));
        [boxed(*b"trak", &boxed(*b"mdia", &mdia)), trex].concat()
    }

    #[test]
    fn the_codec_of_a_picture_and_of_a_sound_is_named() {
        let mut picture = vec![0; 78];
        picture[24..28].copy_from_slice(&[0x05, 0x00, 0x02, 0xd0]);
        picture.extend(boxed(*b"avcC", &[1, 0x64, 0x00, 0x1f, 0xff]));
        let found = track_header(&moov(&boxed(*b"avc1", &picture))).unwrap();
        assert_eq!(
            (found.codec.as_str(), found.timescale, found.width, found.height),
            ("avc1.64001f", 90_000, 1280, 720)
        );
        assert_eq!(found.default_duration, 40);
        let mut sound = vec![0; 28];
        sound[17] = 2;
        let esds =
            [&[0, 0, 0, 0, 3, 0x80, 0x80, 0x80, 0x22, 0, 2, 0, 4, 0x14][..], &[0; 13], &[5, 2, 0x11, 0x90]].concat();
        sound.extend(boxed(*b"esds", &esds));
        let found = track_header(&moov(&boxed(*b"mp4a", &sound))).unwrap();
        assert_eq!((found.codec.as_str(), found.channels), ("mp4a.40.2", 2));
        assert!(track_header(&moov(&boxed(*b"vp09", &[0; 90]))).is_err());
    }

    #[test]
    fn a_fragment_plays_for_as_long_as_its_samples() {
        let moof = |tfhd: &[u32], tfdt: &[u32], trun: &[u32]| {
            let content = [boxed(*b"tfhd", &words(tfhd)), boxed(*b"tfdt", &words(tfdt)), boxed(*b"trun", &words(trun))];
            boxed(*b"traf", &content.concat())
        };
        let time = |moof: &[u8]| fragment_time(moof, &header(7));
        let own = moof(&[0x0002_0000, 1], &[0x0100_0000, 1, 5], &[0x0000_0301, 2, 99, 30, 400, 40, 500]);
        assert_eq!(time(&own), Ok(FragmentTime { begin: (1 << 32) + 5, duration: 70, reordered: false }));
        let of_fragment = moof(&[0x0002_0008, 1, 20], &[0, 5], &[0, 3]);
        assert_eq!(time(&of_fragment), Ok(FragmentTime { begin: 5, duration: 60, reordered: false }));
        let of_track = moof(&[0, 1], &[0, 5], &[0x0000_0a04, 1, 2, 400, 33]);
        assert_eq!(time(&of_track), Ok(FragmentTime { begin: 5, duration: 7, reordered: true }));
        // Cut off, and none.
        assert!(time(&moof(&[0, 1], &[0, 5], &[0x0000_0100, 3, 1, 1])).is_err() && time(&[]).is_err());
    }

    #[test]
    fn the_last_sample_of_a_fragment_lasts_longer_where_it_states_how_long_it_lasts() {
        let moof = |tfhd: &[u32], truns: &[&[u32]]| {
            let runs = truns.iter().flat_map(|trun| boxed(*b"trun", &words(trun))).collect();
            let content = [boxed(*b"tfhd", &words(tfhd)), boxed(*b"tfdt", &words(&[0, 5])), runs];
            boxed(*b"traf", &content.concat())
        };
        let own: &[u32] = &[0x0000_0301, 2, 99, 30, 400, 40, 500];
        for mut stated in
            [moof(&[0, 1], &[own]), moof(&[0, 1], &[own, own]), moof(&[0x0002_000a, 1, 7, 20], &[&[0, 1]])]
        {
            let before = fragment_time(&stated, &header(7)).unwrap().duration;
            assert!(lengthen_last_sample(&mut stated, 1000));
            assert_eq!(fragment_time(&stated, &header(7)).unwrap().duration, before + 1000);
        }
        for mut other in [moof(&[0, 1], &[&[0, 3]]), moof(&[0x0002_0008, 1, 20], &[&[0, 3]]), Vec::new()] {
            let before = other.clone();
            assert!(!lengthen_last_sample(&mut other, 1000) && other == before);
        }
    }

    #[test]
    fn a_box_says_how_long_it_is() {
        assert_eq!(box_header(&boxed(*b"moof", &[0; 9])), Some((*b"moof", 17)));
        let large = [&words(&[1])[..], b"mdat", &words(&[1, 0])].concat();
        assert_eq!(box_header(&large), Some((*b"mdat", 1 << 32)));
        for none in [&words(&[0, 0, 0, 0])[..], &words(&[7, 0]), &words(&[1, 0]), &[]] {
            assert_eq!(box_header(none), None, "{none:?}");
        }
    }
}
