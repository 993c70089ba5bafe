//! Where the files of a job lie, and what they hold. Nothing outside `main_path` is ever opened, whatever a job says
//! and wherever a symbolic link leads.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use crate::media::{decode_check, ffprobe};
use crate::protocol::ids::RecordingId;
use crate::transcode::plan::{self, JobFacts, MeasuredFile};

/// `main_path`, as this machine sees it.
#[derive(Clone, Debug)]
pub struct MediaRoot {
    /// As it is in the configuration.
    configured: PathBuf,
    /// Absolute; what other programs are told.
    pub path: PathBuf,
    /// Without symbolic links; what paths are held against.
    real: PathBuf,
}

impl MediaRoot {
    /// # Errors
    /// Where the directory is not there (a share that is not mounted).
    pub fn open(main_path: &Path) -> io::Result<Self> {
        let real = fs::canonicalize(main_path)?;
        let absolute = std::path::absolute(main_path)?;
        // A script may hold the path against the configured one; only one with `..` is better told without.
        let plain = !absolute.components().any(|part| part == Component::ParentDir);
        Ok(Self { configured: main_path.to_owned(), path: if plain { absolute } else { real.clone() }, real })
    }
}

/// Why there is nothing to work on.
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

/// What is looked for.
#[derive(Clone, Copy, Debug)]
pub struct InputQuery<'a> {
    /// The job's directory and file name.
    pub dir: &'a Path,
    pub raw_name: &'a str,
    pub recording_id: &'a RecordingId,
    /// Where a hook has put the raw file, if one has.
    pub fetched: Option<InputNames<'a>>,
    /// For the programs that look into the files: 0…19, see [`crate::process::child::ChildSpec::nice`].
    pub nice: u8,
}

/// A raw file that a hook has brought from elsewhere.
#[derive(Clone, Copy, Debug)]
pub struct InputNames<'a> {
    /// Anywhere on this machine: the operator's own program says so.
    pub dir: &'a Path,
    /// Where the result goes if the job's own directory is not here: relative to `main_path`.
    pub home: &'a Path,
}

/// Finds the files of a job and reads what they hold.
///
/// # Errors
/// Where no directory under `main_path` holds the raw file or the result.
pub async fn locate(main_path: &Path, sought: InputQuery<'_>) -> Result<JobFacts, LocateError> {
    let (main, dir, name, mp4_name) =
        (main_path.to_owned(), sought.dir.to_owned(), sought.raw_name.to_owned(), plan::mp4_name(sought.recording_id));
    let fetched = sought.fetched.map(|fetched| (fetched.dir.to_owned(), fetched.home.to_owned()));
    let search = tokio::task::spawn_blocking(move || match fetched {
        None => search(&main, &dir, &name, &mp4_name),
        Some((at, home)) => search_fetched(&main, &dir, &at.join(name), &home, &mp4_name),
    });
    let spot = search.await.unwrap_or_else(|error| {
        Err(LocateError::Root { path: main_path.to_owned(), source: io::Error::other(error) })
    })?;
    // Both read to their end: the header of a file that was cut off tells of more than there is.
    let mut mp4 = match spot.mp4 {
        Some(file) => Some(MeasuredFile { size: file.size, media: words(ffprobe::measure(&file.path).await) }),
        None => None,
    };
    let raw = match spot.raw {
        Some(file) => Some(MeasuredFile { size: file.size, media: words(ffprobe::measure(&file.path).await) }),
        None => None,
    };
    let mp4_path = spot.root.join(&spot.dir).join(plan::mp4_name(sought.recording_id));
    if let (Some(MeasuredFile { media: found, .. }), Some(_)) = (&mut mp4, &raw)
        && let Ok(media) = &found
        && let Err(error) = decode_check::check_result(&mp4_path, media, &spot.raw_path, sought.nice).await
    {
        // The raw file would go for it.
        *found = Err(error.to_string());
    }
    Ok(JobFacts { root: spot.root, dir: spot.dir, raw_path: spot.raw_path, raw, mp4 })
}

fn words(probed: Result<ffprobe::MediaInfo, ffprobe::ProbeError>) -> Result<ffprobe::MediaInfo, String> {
    probed.map_err(|error| error.to_string())
}

struct InputPath {
    root: PathBuf,
    /// Of the result, relative to `root`.
    dir: PathBuf,
    raw_path: PathBuf,
    raw: Option<InputFile>,
    mp4: Option<InputFile>,
}

#[derive(Debug)]
pub(super) struct InputFile {
    pub path: PathBuf,
    pub size: u64,
}

fn search(main_path: &Path, dir: &Path, raw_name: &str, mp4_name: &str) -> Result<InputPath, LocateError> {
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
                return Ok(InputPath { root: root.path, dir: place, raw_path: raw.path.clone(), raw: Some(raw), mp4 });
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
            Ok(InputPath { root: root.path, dir, raw_path, raw: None, mp4: Some(mp4) })
        }
        None => {
            Err(LocateError::Missing { raw_name: raw_name.to_owned(), dir: dir.to_owned(), looked: looked.join(", ") })
        }
    }
}

/// As [`search`], for a raw file that a hook has put to `raw`.
fn search_fetched(
    main_path: &Path,
    dir: &Path,
    raw: &Path,
    home: &Path,
    mp4_name: &str,
) -> Result<InputPath, LocateError> {
    let root = MediaRoot::open(main_path).map_err(|source| LocateError::Root { path: main_path.to_owned(), source })?;
    let places = plan::places(dir, &[&root.configured, &root.path, &root.real]);
    let there = places.into_iter().find(|place| check_dir(&root, &root.path.join(place)).is_ok());
    let dir = there.unwrap_or_else(|| home.to_owned());
    let refused = |why: String| LocateError::Fetched { path: raw.to_owned(), why };
    // It is made where it is not there.
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
    Ok(InputPath { root: root.path, dir, raw_path: raw.to_owned(), raw: found, mp4 })
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

/// The file, if it is there; an error where it is there but may not be read.
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
    fn a_raw_file_is_found_here_and_as_another_node_names_it() {
        let (_dir, main) = tree();
        fs::write(main.join("node/room/raw.mkv"), "media").unwrap();
        for dir in [main.join("node/room"), "/elsewhere/node/room/".into(), "../files/node/room".into()] {
            let spot = search(&main, &dir, "raw.mkv", "r.mp4").unwrap();
            assert_eq!(spot.dir, Path::new("node/room"));
            assert_eq!(spot.raw.unwrap().size, 5);
            assert!(spot.mp4.is_none());
        }
    }

    #[test]
    fn a_result_without_its_raw_file_is_found_too() {
        let (_dir, main) = tree();
        fs::write(main.join("node/room/r.mp4"), "media").unwrap();
        let spot = search(&main, Path::new("/x/node/room"), "raw.mkv", "r.mp4").unwrap();
        assert!(spot.raw.is_none() && spot.mp4.is_some());
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
    fn what_a_hook_has_fetched_is_taken_from_where_it_is_and_its_result_stays_in_main_path() {
        let (dir, main) = tree();
        let raw = dir.path().join("secret/raw.mkv");
        let find =
            |job_dir: &str, raw: &Path| search_fetched(&main, Path::new(job_dir), raw, Path::new("sub/r"), "r.mp4");
        for (job_dir, place) in [("s3://bucket/x/", "sub/r"), ("/elsewhere/node/room", "node/room")] {
            let spot = find(job_dir, &raw).unwrap();
            assert_eq!((spot.dir.as_path(), spot.raw_path.as_path()), (Path::new(place), raw.as_path()));
            assert_eq!(spot.raw.unwrap().size, 1);
        }
        for nothing in [dir.path().join("secret/gone.mkv"), dir.path().join("secret")] {
            let error = find("s3://bucket", &nothing).err().unwrap().to_string();
            assert!(error.contains("hooks") && error.contains(nothing.to_str().unwrap()), "{error}");
        }
    }

    #[test]
    fn a_directory_of_a_files_name_is_no_file() {
        let (_dir, main) = tree();
        fs::create_dir(main.join("node/room/raw.mkv")).unwrap();
        let Err(error) = search(&main, &main.join("node/room"), "raw.mkv", "r.mp4") else { panic!() };
        assert!(error.to_string().contains("no regular file"), "{error}");
    }
}
