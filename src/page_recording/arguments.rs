//! The arguments of `record`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args};
use url::Url;

use crate::page_recording::outlet::outlets::Outlet;
use crate::protocol::ids::RtmpUrl;

/// Frames per second that may be asked for: more than a screen shows is of no use.
const FRAME_RATES: std::ops::RangeInclusive<i64> = 1..=60;
/// Width and height in pixels that can be recorded.
const SIZES: [std::ops::RangeInclusive<u32>; 2] = [64..=7680, 64..=4320];

/// Shown behind the help of `record`.
pub const AFTER_HELP: &str = "\
Examples:
  plugnmeet-recorder record https://example.org --duration 30s
  plugnmeet-recorder record https://example.org/live -o live.mp4 --click '#accept' --wait-for video
  plugnmeet-recorder record https://example.org/call --until-gone '#call' --cookie session=abc123
  plugnmeet-recorder record https://example.org/radio --sound-only -o radio.m4a
  plugnmeet-recorder record https://example.org/live --hls /var/www/live --rtmp @live.url -o live.mp4

The recording ends with --duration, with --until-gone, when the page is closed, or with Ctrl-C (SIGINT or SIGTERM): then
the MP4 is made from the raw file and the raw file is removed. A second Ctrl-C stops at once and keeps the raw file. So
does a failure; what is said then names it. After a kill -9 it is in the directory NAME.recording-... beside the MP4, is
complete but for the last second, and becomes an MP4 by:
  ffmpeg -i raw.mkv -c:v copy -c:a aac -movflags +faststart NAME.mp4

Exit codes:
  0    the MP4 is complete
  1    the recording or its MP4 has failed; what there is of it is kept and named
  2    wrong usage; or the output exists (--force) or cannot be written, or its disk does not answer
  3    this machine cannot record: a program is missing or does not start
  4    the page cannot be recorded: not found, refused, not loaded, or an element does not come
  5    the page crashed, hung or lost its network while it was recorded; the MP4 holds what came before
  6    all was recorded, and the MP4, if one was asked for, is complete; but what --hls or --rtmp wrote is not
  130  stopped before anything was recorded, or by a second signal; a raw file is kept and named";

/// What `record` is to do.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub struct RecordArguments {
    /// The page: http, https or file
    #[arg(value_parser = address)]
    pub url: Url,
    /// The MP4; without it HOST-DATE.mp4 in the current directory
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Replace an existing output
    #[arg(long)]
    pub force: bool,
    /// End after this time, like 90s, 10m or 1h30m
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub duration: Option<Duration>,
    /// End when the element of this CSS selector is shown no more; the recording begins when it is shown
    #[arg(long, value_name = "SELECTOR")]
    pub until_gone: Option<String>,
    /// Begin when the element of this CSS selector is shown
    #[arg(long, value_name = "SELECTOR")]
    pub wait_for: Option<String>,
    /// Click the element of this CSS selector before the recording; may be repeated, each is waited for, for 30 s
    #[arg(long, value_name = "SELECTOR", action = ArgAction::Append)]
    pub click: Vec<String>,
    /// Size of page and picture in pixels
    #[arg(long, value_name = "WIDTHxHEIGHT", default_value = "1920x1080", value_parser = size)]
    pub size: (u32, u32),
    /// Frames per second at most; a picture that stands still takes fewer
    #[arg(long, value_name = "NUMBER", default_value_t = 30, value_parser = clap::value_parser!(u32).range(FRAME_RATES))]
    pub fps: u32,
    /// A cookie for the page's host; may be repeated
    #[arg(long, value_name = "NAME=VALUE", action = ArgAction::Append, value_parser = cookie)]
    pub cookie: Vec<(String, String)>,
    /// A header of every request of the page, also of those to other sites; may be repeated
    #[arg(long, value_name = "NAME: VALUE", action = ArgAction::Append, value_parser = header)]
    pub header: Vec<(String, String)>,
    /// The browser's name to the server
    #[arg(long, value_name = "TEXT", value_parser = one_line)]
    pub user_agent: Option<String>,
    /// Trust the certificates in this PEM file, as those of a private CA, besides those that Chrome and this host trust
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// Leave the sound out
    #[arg(long, conflicts_with = "sound_only")]
    pub no_sound: bool,
    /// Leave the picture out
    #[arg(long)]
    pub sound_only: bool,
    /// Write HLS into this directory while it is recorded: index.m3u8 and its segments; without -o no MP4 is made
    #[arg(long, value_name = "DIR")]
    pub hls: Option<PathBuf>,
    /// Broadcast to this RTMP server, rtmp[s]://HOST/APPLICATION/KEY, while it is recorded; @FILE holds the address, so
    /// that no list of processes shows the key; without -o no MP4 is made
    #[arg(long, value_name = "URL", conflicts_with = "sound_only")]
    pub rtmp: Option<String>,
    /// The directory for the raw file while it grows; without it that of the output
    #[arg(long, value_name = "DIR")]
    pub temp: Option<PathBuf>,
    /// Print the quality summary as one JSON object on standard output, and everything else on standard error
    #[arg(long)]
    pub summary: bool,
    /// Log what the recorder does on standard error
    #[arg(short, long)]
    pub verbose: bool,
}

impl RecordArguments {
    /// Whether an MP4 is made.
    #[must_use]
    pub fn makes_file(&self) -> bool {
        self.output.is_some() || (self.hls.is_none() && self.rtmp.is_none())
    }

    /// Whether nothing is made of the raw file at the end, so that what was sent is of no further use.
    #[must_use]
    pub fn is_only_sent(&self) -> bool {
        self.rtmp.is_some() && self.hls.is_none() && !self.makes_file()
    }

    /// What becomes of the recording while it runs.
    ///
    /// # Errors
    /// Where the address of `--rtmp` is none, or its file cannot be read.
    pub fn outlets(&self) -> Result<Vec<Outlet>, String> {
        let rtmp = self.rtmp.as_deref().map(rtmp_url).transpose()?;
        Ok(self.hls.clone().map(Outlet::Hls).into_iter().chain(rtmp.map(Outlet::Rtmp)).collect())
    }
}

/// The address of `--rtmp`. It is a secret, so it is read here: a parser of the command line names what it refuses.
fn rtmp_url(text: &str) -> Result<RtmpUrl, String> {
    let read = |file: &str| std::fs::read_to_string(file).map_err(|error| format!("--rtmp: {file}: {error}"));
    let from_file = text.strip_prefix('@').map(read).transpose()?;
    let url = RtmpUrl::parse(from_file.as_deref().unwrap_or(text).trim());
    let url = url.map_err(|error| format!("--rtmp: {}", error.to_string().replace("rtmp_url ", "the address ")))?;
    if url.key().is_none() {
        return Err("--rtmp: the address names no stream key: rtmp://HOST/APPLICATION/KEY".to_owned());
    }
    Ok(url)
}

fn address(text: &str) -> Result<Url, String> {
    let url = match Url::parse(text) {
        Ok(url) => url,
        // As in a browser's address bar.
        Err(url::ParseError::RelativeUrlWithoutBase) => {
            Url::parse(&format!("https://{text}")).map_err(|error| error.to_string())?
        }
        Err(error) => return Err(error.to_string()),
    };
    match url.scheme() {
        "http" | "https" | "file" => Ok(url),
        // `localhost:8080` reads as a scheme.
        scheme if !text.contains("://") => {
            Err(format!("put http:// or https:// before it ({scheme}: is no kind of page)"))
        }
        scheme => Err(format!("{scheme} is no kind of page; http, https and file are")),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let duration = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => humantime::parse_duration(text).map_err(|_| "a time is written like 90s, 10m or 1h30m".to_owned())?,
    };
    if duration.is_zero() { Err("nothing can be recorded in no time".to_owned()) } else { Ok(duration) }
}

fn size(text: &str) -> Result<(u32, u32), String> {
    let numbers = text.split_once(['x', 'X', '×']);
    let numbers = numbers.and_then(|(width, height)| Some((width.parse().ok()?, height.parse().ok()?)));
    let (width, height): (u32, u32) = numbers.ok_or("a size is written like 1280x720")?;
    let fits = |number: u32, range: &std::ops::RangeInclusive<u32>| range.contains(&number) && number.is_multiple_of(2);
    if fits(width, &SIZES[0]) && fits(height, &SIZES[1]) {
        Ok((width, height))
    } else {
        Err("width and height are even, from 64x64 to 7680x4320".to_owned())
    }
}

/// The value may hold anything that a cookie may; it is not named in errors.
fn cookie(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("a cookie is written NAME=VALUE")?;
    let name = name.trim();
    if name.is_empty() || name.contains([';', ',', ' ']) || value.contains(|c: char| c == ';' || c.is_control()) {
        return Err("a cookie is written NAME=VALUE, without attributes".to_owned());
    }
    Ok((name.to_owned(), value.to_owned()))
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("a header is written 'NAME: VALUE'")?;
    let is_token =
        |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    if !is_token(name) || value.contains(char::is_control) {
        return Err("a header is written 'NAME: VALUE' on one line".to_owned());
    }
    Ok((name.to_owned(), value.trim().to_owned()))
}

fn one_line(text: &str) -> Result<String, String> {
    if text.trim().is_empty() || text.contains(char::is_control) {
        return Err("a name is some text on one line".to_owned());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_page_and_may_lack_its_scheme() {
        for (text, wanted) in [
            ("https://example.org/a?b#c", "https://example.org/a?b#c"),
            ("example.org/live", "https://example.org/live"),
            ("file:///tmp/a.html", "file:///tmp/a.html"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080/"),
        ] {
            assert_eq!(address(text).unwrap().as_str(), wanted);
        }
        assert!(address("localhost:8080").unwrap_err().contains("http://"));
        for wrong in ["javascript:alert(1)", "chrome://settings", "data:text/html,x", "", "ftp://x"] {
            assert!(address(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_address_of_a_broadcast_may_be_in_a_file_and_is_shown_by_no_error() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("live.url");
        std::fs::write(&file, "rtmp://h/live/s3cret\n").unwrap();
        let url = rtmp_url(&format!("@{}", file.display())).unwrap();
        assert_eq!(url, rtmp_url("rtmp://h/live/s3cret").unwrap());
        assert_eq!(url.key().as_deref(), Some("s3cret"));
        for wrong in ["http://h/live/s3cret", "rtmp://h/live/s3 cret", "rtmp://s3cret/live", "@/no/such/file", ""] {
            let error = rtmp_url(wrong).unwrap_err();
            assert!(error.starts_with("--rtmp: ") && !error.contains("s3"), "{error}");
        }
    }

    #[test]
    fn what_an_mp4_or_segments_are_made_of_is_given_back_to_no_disk() {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            arguments: RecordArguments,
        }
        for (options, file, only_sent) in [
            (&[][..], true, false),
            (&["--hls", "d"], false, false),
            (&["--rtmp", "@u"], false, true),
            (&["--rtmp", "@u", "--hls", "d"], false, false),
            (&["--rtmp", "@u", "-o", "a.mp4"], true, false),
            (&["--rtmp", "@u", "--hls", "d", "-o", "a.mp4"], true, false),
        ] {
            let line = [&["record", "http://h/"], options].concat();
            let arguments = <Line as clap::Parser>::parse_from(line).arguments;
            assert_eq!((arguments.makes_file(), arguments.is_only_sent()), (file, only_sent), "{options:?}");
        }
    }

    #[test]
    fn times_and_sizes() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(duration("45"), Ok(Duration::from_secs(45)));
        for wrong in ["", "0", "0s", "-1", "ten"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
        assert_eq!(size("1280x720"), Ok((1280, 720)));
        for wrong in ["", "1280", "1281x720", "1280x", "0x0", "9000x720", "-2x64"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn cookies_and_headers_are_one_line_and_an_error_does_not_show_their_values() {
        assert_eq!(cookie("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert_eq!(cookie("a="), Ok(("a".into(), String::new())));
        assert_eq!(header("X-Test:  a: b "), Ok(("X-Test".into(), "a: b".into())));
        for wrong in ["s3cret", "=s3cret", "a b=s3cret", "a=s3cret; Secure", "a=s3cret\n"] {
            assert!(!cookie(wrong).unwrap_err().contains("s3cret"), "{wrong}");
        }
        for wrong in ["s3cret", ": s3cret", "a b: s3cret", "a: s3cret\r\nb: c"] {
            assert!(!header(wrong).unwrap_err().contains("s3cret"), "{wrong}");
        }
        assert!(one_line(" ").is_err() && one_line("a\nb").is_err() && one_line("Mozilla/5.0 (x)").is_ok());
    }
}
