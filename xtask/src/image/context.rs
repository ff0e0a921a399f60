//! What an image is built from: a folder with a file tree that becomes the image's root.

use crate::command::{program, root, shown};
use crate::failure::Failure;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// On the search path of every container.
const PROGRAMS: &str = "usr/local/bin";

/// A folder below `target/container` with these programs, under these names, in its `root`.
pub(super) fn lay_out(folder: &str, programs: &[(PathBuf, &str)]) -> Result<PathBuf, Failure> {
    let folder = root().join("target/container").join(folder);
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(Failure::file(&folder))?;
    }
    let image = folder.join("root");
    for (from, name) in programs {
        copy(from, &image.join(PROGRAMS).join(name), 0o755)?;
    }
    copy(&root().join("LICENSE"), &image.join("LICENSE"), 0o644)?;
    Ok(folder)
}

/// The same with a program and what it loads, where it looks for it. A static one loads nothing.
pub(super) fn lay_out_with_libraries(folder: &str, from: &Path, name: &str) -> Result<PathBuf, Failure> {
    let folder = lay_out(folder, &[(from.to_owned(), name)])?;
    for library in libraries(&loaded(from)?) {
        let place = library.strip_prefix("/").unwrap_or(library);
        copy(library, &folder.join("root").join(place), 0o755)?;
    }
    Ok(folder)
}

fn copy(from: &Path, to: &Path, mode: u32) -> Result<(), Failure> {
    let folder = to.parent().expect("a file lies in a folder");
    fs::create_dir_all(folder).map_err(Failure::file(folder))?;
    fs::copy(from, to).map_err(Failure::file(from))?;
    fs::set_permissions(to, fs::Permissions::from_mode(mode)).map_err(Failure::file(to))
}

/// What `ldd` prints, which fails for a static program.
fn loaded(from: &Path) -> Result<String, Failure> {
    let mut ldd = program("ldd", &[]);
    let said = ldd.arg(from).env("LC_ALL", "C").output();
    let said = said.map_err(|source| Failure::CannotStart { command: shown(&ldd), source })?;
    let errors = String::from_utf8_lossy(&said.stderr);
    if said.status.success() || errors.contains("not a dynamic executable") {
        return Ok(String::from_utf8_lossy(&said.stdout).into_owned());
    }
    Err(Failure::Exited { command: shown(&ldd), status: said.status })
}

/// The files that `ldd` names.
fn libraries(printed: &str) -> impl Iterator<Item = &Path> {
    printed.split_whitespace().filter(|word| word.starts_with('/')).map(Path::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loader_is_a_library_and_what_the_kernel_maps_is_none() {
        let printed = "\tlinux-vdso.so.1 (0x00007fa7897a3000)\n\
            \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007fa78553e000)\n\
            \t/lib64/ld-linux-x86-64.so.2 (0x00007fa7897a5000)\n";
        let found: Vec<&Path> = libraries(printed).collect();
        assert_eq!(
            found,
            [Path::new("/lib/x86_64-linux-gnu/libc.so.6"), Path::new("/lib64/ld-linux-x86-64.so.2")]
        );
    }
}
