//! Finds and measures the files of a job. No file outside `main_path` is opened, whatever a job or a symbolic link
//! says; only the operator's hooks may name one.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use crate::media::decode_check;
use crate::media::ffprobe::{self, FileHeaders};
use crate::protocol::ids::RecordingId;
use crate::transcode::plan::{self, JobFacts, MeasuredFile};

/// `main_path` on this machine.
#[derive(Clone, Debug)]
pub struct MediaRoot {
    /// As configured.
    configured: PathBuf,
    /// Absolute; the path that other programs are given.
    pub path: PathBuf,
    /// Without symbolic links; found paths are compared with it.
    real: PathBuf,
}

impl MediaRoot {
    /// # Errors
    /// Where the directory is not there (a share that is not mounted).
    pub fn open(main_path: &Path) -> io::Result<Self> {
        let real = fs::canonicalize(main_path)?;
        let absolute = std::path::absolute(main_path)?;
        // A script may compare the path with the configured one, so symbolic links stay; only `..` is resolved.
        let plain = !absolute.components().any(|part| part == Component::ParentDir);
        Ok(Self { configured: main_path.to_owned(), path: if plain { absolute } else { real.clone() }, real })
    }
}

/// Why a job's input cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LocateError {
    #[error("main_path {path} cannot be read: {source}", path = path.display())]
    Root { path: PathBuf, source: io::Error },
    #[error("{dir} names no directory that could lie under main_path", dir = .0.display())]
    Nowhere(PathBuf),
    #[error("no {raw_name} under main_path for {dir}; looked in {looked}", dir = dir.display())]
    Missing { raw_name: String, dir: PathBuf, looked: String },
    #[error("the pre_transcoding hooks say that the raw file is {path}: {why}", path = path.display())]
    Fetched { path: PathBuf, why: String },
}

/// Which files to look for.
#[derive(Clone, Copy, Debug)]
pub struct InputQuery<'a> {
    /// The job's directory and file name.
    pub dir: &'a Path,
    pub raw_name: &'a str,
    pub recording_id: &'a RecordingId,
    /// The raw file's place, where a hook has fetched it.
    pub fetched: Option<FetchedRaw<'a>>,
}

/// A raw file that a hook has fetched.
#[derive(Clone, Copy, Debug)]
pub struct FetchedRaw<'a> {
    /// Any directory on this machine: the operator's own program names it.
    pub dir: &'a Path,
    /// The result's directory, relative to `main_path`, where the job's own directory does not exist.
    pub home: &'a Path,
}

/// Finds the files of a job.
///
/// # Errors
/// Where no directory under `main_path` holds the raw file or the result.
pub async fn find(main_path: &Path, query: InputQuery<'_>) -> Result<FoundFiles, LocateError> {
    let (main, dir, name, mp4_name) =
        (main_path.to_owned(), query.dir.to_owned(), query.raw_name.to_owned(), plan::mp4_name(query.recording_id));
    let fetched = query.fetched.map(|fetched| (fetched.dir.to_owned(), fetched.home.to_owned()));
    let search = tokio::task::spawn_blocking(move || match fetched {
        None => search(&main, &dir, &name, &mp4_name),
        Some((at, home)) => search_fetched(&main, &dir, &at.join(name), &home, &mp4_name),
    });
    search
        .await
        .unwrap_or_else(|error| Err(LocateError::Root { path: main_path.to_owned(), source: io::Error::other(error) }))
}

/// Measures the files of a job. `headers`: those of the raw file, where they were read. `nice`: of ffmpeg, 0…19.
pub async fn measure(found: FoundFiles, headers: Option<FileHeaders>, nice: u8) -> JobFacts {
    // Both are read to their end: the header of a truncated file states more than the file holds.
    let mut mp4 = measured(found.mp4.as_ref(), None).await;
    let raw = measured(found.raw.as_ref(), headers).await;
    // The raw file would be removed because of this MP4.
    if let (Some(MeasuredFile { media: made, .. }), Some(_), Some(file)) = (&mut mp4, &raw, &found.mp4)
        && let Ok(media) = &made
    {
        let checked = decode_check::check_result(&file.path, media, &found.raw_path, nice).await;
        let why = media.incomplete.clone().or_else(|| checked.err().map(|error| error.to_string()));
        *made = why.map_or_else(|| made.clone(), Err);
    }
    JobFacts { root: found.root, dir: found.dir, raw_path: found.raw_path, raw, mp4 }
}

async fn measured(file: Option<&InputFile>, headers: Option<FileHeaders>) -> Option<MeasuredFile> {
    let file = file?;
    let media = match headers {
        Some(headers) => ffprobe::measure_with(&file.path, headers).await,
        None => ffprobe::measure(&file.path).await,
    };
    Some(MeasuredFile { size: file.size, media: media.map_err(|error| error.to_string()) })
}

/// The files of a job that exist, absolute.
#[derive(Debug)]
pub struct FoundFiles {
    /// `main_path`.
    pub root: PathBuf,
    /// The result's directory, relative to `root`.
    pub dir: PathBuf,
    /// The raw file's path, whether it exists or not.
    pub raw_path: PathBuf,
    pub raw: Option<InputFile>,
    /// A file with the result's name.
    pub mp4: Option<InputFile>,
}

/// A file that exists.
#[derive(Debug)]
pub struct InputFile {
    pub path: PathBuf,
    pub size: u64,
}

fn search(main_path: &Path, dir: &Path, raw_name: &str, mp4_name: &str) -> Result<FoundFiles, LocateError> {
    let root = MediaRoot::open(main_path).map_err(|source| LocateError::Root { path: main_path.to_owned(), source })?;
    let places = plan::places(dir, &[&root.configured, &root.path, &root.real]);
    if places.is_empty() {
        return Err(LocateError::Nowhere(dir.to_owned()));
    }
    let mut looked = Vec::new();
    let mut result_only = None;
    for place in places {
        let at = root.path.join(&place);
        let seen = check_dir(&root, &at)
            .and_then(|()| Ok((file(&root, &at.join(raw_name))?, file(&root, &at.join(mp4_name))?)));
        match seen {
            Ok((Some(raw), mp4)) => {
                return Ok(FoundFiles { root: root.path, dir: place, raw_path: raw.path.clone(), raw: Some(raw), mp4 });
            }
            Ok((None, Some(mp4))) => {
                result_only.get_or_insert((place, mp4));
            }
            Ok((None, None)) => looked.push(format!("{} (not in it)", at.display())),
            Err(why) => looked.push(format!("{} ({why})", at.display())),
        }
    }
    match result_only {
        Some((dir, mp4)) => {
            let raw_path = root.path.join(&dir).join(raw_name);
            Ok(FoundFiles { root: root.path, dir, raw_path, raw: None, mp4: Some(mp4) })
        }
        None => {
            Err(LocateError::Missing { raw_name: raw_name.to_owned(), dir: dir.to_owned(), looked: looked.join(", ") })
        }
    }
}

/// Like [`search`], for a raw file that a hook has fetched to `raw`.
fn search_fetched(
    main_path: &Path,
    dir: &Path,
    raw: &Path,
    home: &Path,
    mp4_name: &str,
) -> Result<FoundFiles, LocateError> {
    let root = MediaRoot::open(main_path).map_err(|source| LocateError::Root { path: main_path.to_owned(), source })?;
    let places = plan::places(dir, &[&root.configured, &root.path, &root.real]);
    let existing = places.into_iter().find(|place| check_dir(&root, &root.path.join(place)).is_ok());
    let dir = existing.unwrap_or_else(|| home.to_owned());
    let refused = |why: String| LocateError::Fetched { path: raw.to_owned(), why };
    // A missing directory is created later.
    if let (true, Err(why)) = (root.path.join(&dir).exists(), check_dir(&root, &root.path.join(&dir))) {
        return Err(refused(format!("its result cannot go to {}: {why}", dir.display())));
    }
    let mp4 = file(&root, &root.path.join(&dir).join(mp4_name)).map_err(refused)?;
    let found = match fs::metadata(raw) {
        Ok(metadata) if metadata.is_file() => Some(InputFile { path: raw.to_owned(), size: metadata.len() }),
        Ok(_) => return Err(refused("it is no regular file".to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound && mp4.is_some() => None,
        Err(error) => return Err(refused(error.to_string())),
    };
    Ok(FoundFiles { root: root.path, dir, raw_path: raw.to_owned(), raw: found, mp4 })
}

fn check_dir(root: &MediaRoot, dir: &Path) -> Result<(), String> {
    match fs::canonicalize(dir) {
        Ok(real) if !real.starts_with(&root.real) => Err("it leaves main_path through a symbolic link".to_owned()),
        Ok(real) if !real.is_dir() => Err("it is no directory".to_owned()),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err("no such directory".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// The file; `None` where it does not exist, an error where it may not be read.
pub(super) fn file(root: &MediaRoot, path: &Path) -> Result<Option<InputFile>, String> {
    let name = || path.file_name().unwrap_or_default().to_string_lossy();
    let real = match fs::canonicalize(path) {
        Ok(real) => real,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("{}: {error}", name())),
    };
    if !real.starts_with(&root.real) {
        return Err(format!("{} leaves main_path through a symbolic link", name()));
    }
    match fs::metadata(&real) {
        Ok(metadata) if metadata.is_file() => Ok(Some(InputFile { path: path.to_owned(), size: metadata.len() })),
        Ok(_) => Err(format!("{} is no regular file", name())),
        Err(error) => Err(format!("{}: {error}", name())),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn tree() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let main = dir.path().join("main");
        fs::create_dir_all(main.join("node/room")).unwrap();
        fs::create_dir_all(dir.path().join("secret")).unwrap();
        fs::write(dir.path().join("secret/raw.mkv"), "x").unwrap();
        (dir, main)
    }

    #[test]
    fn a_raw_file_is_found_by_this_nodes_path_and_by_another_nodes() {
        let (_dir, main) = tree();
        fs::write(main.join("node/room/raw.mkv"), "media").unwrap();
        for dir in [main.join("node/room"), "/elsewhere/node/room/".into(), "../files/node/room".into()] {
            let located = search(&main, &dir, "raw.mkv", "r.mp4").unwrap();
            assert_eq!(located.dir, Path::new("node/room"));
            assert_eq!(located.raw.unwrap().size, 5);
            assert!(located.mp4.is_none());
        }
    }

    #[test]
    fn a_result_without_its_raw_file_is_found_too() {
        let (_dir, main) = tree();
        fs::write(main.join("node/room/r.mp4"), "media").unwrap();
        let located = search(&main, Path::new("/x/node/room"), "raw.mkv", "r.mp4").unwrap();
        assert!(located.raw.is_none() && located.mp4.is_some());
    }

    #[test]
    fn no_link_leads_out_of_main_path() {
        let (dir, main) = tree();
        symlink(dir.path().join("secret"), main.join("out")).unwrap();
        symlink(dir.path().join("secret/raw.mkv"), main.join("node/room/raw.mkv")).unwrap();
        for job_dir in [main.join("out"), main.join("node/room"), dir.path().join("secret")] {
            let Err(error) = search(&main, &job_dir, "raw.mkv", "r.mp4") else { panic!("{job_dir:?}") };
            let text = error.to_string();
            assert!(text.contains("symbolic link") || text.contains("no such directory"), "{text}");
        }
    }

    #[test]
    fn a_missing_raw_file_names_where_it_was_looked_for() {
        let (_dir, main) = tree();
        let Err(error) = search(&main, &main.join("node/room"), "raw.mkv", "r.mp4") else { panic!() };
        assert!(error.to_string().contains(&format!("{}/node/room (not in it)", main.display())), "{error}");
        assert!(matches!(search(&main, Path::new("../.."), "raw.mkv", "r.mp4"), Err(LocateError::Nowhere(_))));
        let Err(error) = search(&main.join("gone"), Path::new("/a"), "raw.mkv", "r.mp4") else { panic!() };
        assert!(matches!(error, LocateError::Root { .. }), "{error}");
    }

    #[test]
    fn a_fetched_raw_file_may_be_anywhere_and_its_result_stays_in_main_path() {
        let (dir, main) = tree();
        let raw = dir.path().join("secret/raw.mkv");
        let find =
            |job_dir: &str, raw: &Path| search_fetched(&main, Path::new(job_dir), raw, Path::new("sub/r"), "r.mp4");
        for (job_dir, place) in [("s3://bucket/x/", "sub/r"), ("/elsewhere/node/room", "node/room")] {
            let located = find(job_dir, &raw).unwrap();
            assert_eq!((located.dir.as_path(), located.raw_path.as_path()), (Path::new(place), raw.as_path()));
            assert_eq!(located.raw.unwrap().size, 1);
        }
        for nothing in [dir.path().join("secret/gone.mkv"), dir.path().join("secret")] {
            let error = find("s3://bucket", &nothing).err().unwrap().to_string();
            assert!(error.contains("hooks") && error.contains(nothing.to_str().unwrap()), "{error}");
        }
    }

    #[test]
    fn a_directory_with_the_files_name_is_refused() {
        let (_dir, main) = tree();
        fs::create_dir(main.join("node/room/raw.mkv")).unwrap();
        let Err(error) = search(&main, &main.join("node/room"), "raw.mkv", "r.mp4") else { panic!() };
        assert!(error.to_string().contains("no regular file"), "{error}");
    }
}
