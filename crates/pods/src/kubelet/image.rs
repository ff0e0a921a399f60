//! Which program of this machine stands for an image.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Programs by the name of their image: as pods write it, without its tag, or its last part alone.
pub(crate) type Images = BTreeMap<String, PathBuf>;

/// What is started for a container: the image's program, unless its command is another one, which is this machine's.
pub(crate) fn program(images: &Images, image: &str, command: &[String]) -> Option<String> {
    let found = find(images, image)?;
    let file_name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    let Some(wanted) = command.first() else { return Some(found.display().to_string()) };
    let name = file_name(Path::new(wanted));
    let is_own = name == file_name(found) || name.as_deref() == Some(short(image));
    Some(if is_own { found.display().to_string() } else { wanted.clone() })
}

fn find<'a>(images: &'a Images, image: &str) -> Option<&'a Path> {
    let names = [image, last(image), untagged(image), short(image)];
    names.into_iter().find_map(|name| images.get(name)).map(PathBuf::as_path)
}

fn last(image: &str) -> &str {
    image.rsplit('/').next().unwrap_or(image)
}

/// A colon before the last slash belongs to the registry's port.
fn untagged(image: &str) -> &str {
    let image = image.split_once('@').map_or(image, |(image, _)| image);
    let start = image.rfind('/').map_or(0, |at| at + 1);
    image[start..].find(':').map_or(image, |at| &image[..start + at])
}

fn short(image: &str) -> &str {
    last(untagged(image))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closest_name_of_an_image_wins() {
        let images = [("wattle", "/bin/new"), ("wattle:1", "/bin/old"), ("r.io:5000/a/b:2", "/bin/exact")];
        let images: Images =
            images.iter().map(|(name, program)| ((*name).to_owned(), PathBuf::from(program))).collect();
        let check = |image: &str, command: &[&str], expected: Option<&str>| {
            let command: Vec<String> = command.iter().map(|&word| word.to_owned()).collect();
            assert_eq!(program(&images, image, &command).as_deref(), expected, "{image}");
        };
        check("wattle", &[], Some("/bin/new"));
        check("ghcr.io/wattle-grid/wattle:1", &[], Some("/bin/old"));
        check("ghcr.io:443/wattle-grid/wattle:2", &[], Some("/bin/new"));
        check("wattle@sha256:00", &[], Some("/bin/new"));
        check("r.io:5000/a/b:2", &[], Some("/bin/exact"));
        check("r.io:5000/a/b", &[], None);
        check("wattle", &["/usr/bin/wattle", "operator"], Some("/bin/new"));
        check("wattle", &["sh", "-c", "true"], Some("sh"));
    }
}
