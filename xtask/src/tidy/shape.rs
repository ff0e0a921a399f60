//! Rules about the shape of a file: its length, its header, its comments, its name.

use super::Violation;
use super::source::Source;

const MAX_FILE_LINES: usize = 500;
const MAX_HEADER_LINES: usize = 10;
const MAX_COMMENT_LINES: usize = 10;
/// The front page of a published crate may say more than a module's header.
const MAX_CRATE_PAGE_LINES: usize = 60;
const VAGUE_FILE_NAMES: [&str; 8] =
    ["utils.rs", "util.rs", "helpers.rs", "helper.rs", "misc.rs", "manager.rs", "common.rs", "stuff.rs"];

pub(crate) fn file_is_short(source: &Source) -> Vec<Violation> {
    let lines = source.text.lines().count();
    if !source.is_rust() || lines <= MAX_FILE_LINES {
        return Vec::new();
    }
    vec![source.violation(0, format!("{lines} lines: split it, at most {MAX_FILE_LINES}"))]
}

/// The header is the block of `//!` at the top; examples in it do not count. The tests beside a module, in `tests.rs`,
/// are what their name says.
pub(crate) fn header_is_present_and_short(source: &Source) -> Vec<Violation> {
    if !source.is_own_rust() || source.split_path().1 == "tests.rs" {
        return Vec::new();
    }
    let mut lines = 0;
    let mut in_example = false;
    for line in source.text.lines().skip_while(|line| line.starts_with("#!") || line.is_empty()) {
        let Some(text) = line.strip_prefix("//!") else { break };
        let is_fence = text.trim_start().starts_with("```");
        in_example ^= is_fence;
        lines += usize::from(!in_example && !is_fence);
    }
    let limit = if is_crate_page(source) { MAX_CRATE_PAGE_LINES } else { MAX_HEADER_LINES };
    match lines {
        0 => vec![source.violation(1, "no header: say with //! what the file owns")],
        lines if lines > limit => {
            vec![source.violation(1, format!("a header of {lines} lines: at most {limit}"))]
        }
        _ => Vec::new(),
    }
}

fn is_crate_page(source: &Source) -> bool {
    let (folder, file) = source.split_path();
    file == "lib.rs" && (folder.starts_with("crates/client") || folder.starts_with("guest-sdk/"))
}

/// Documentation (`///`) may be long, remarks between code may not. A table does not count.
pub(crate) fn comments_are_short(source: &Source) -> Vec<Violation> {
    if !source.is_own_rust() {
        return Vec::new();
    }
    let mut found = Vec::new();
    let mut block = 0;
    for (number, line) in source.lines() {
        let line = line.trim_start();
        let is_documentation = line.starts_with("///") || line.starts_with("//!");
        let is_remark = line.starts_with("//") && !line.starts_with("// |") && !is_documentation;
        block = if is_remark { block + 1 } else { 0 };
        if block == MAX_COMMENT_LINES + 1 {
            found.push(source.violation(number, format!("a comment of over {MAX_COMMENT_LINES} lines")));
        }
    }
    found
}

pub(crate) fn file_name_says_what_it_is(source: &Source) -> Vec<Violation> {
    let (_, file) = source.split_path();
    if VAGUE_FILE_NAMES.contains(&file) || file.ends_with("_manager.rs") {
        return vec![source.violation(0, "name the file after its one main type or verb")];
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::super::source::lines_found;
    use super::*;

    #[test]
    fn a_file_may_have_500_lines_and_no_more() {
        assert!(lines_found(file_is_short, "a.rs", &"x\n".repeat(500)).is_empty());
        assert_eq!(lines_found(file_is_short, "a.rs", &"x\n".repeat(501)), [0]);
        assert!(lines_found(file_is_short, "a.md", &"x\n".repeat(501)).is_empty());
    }

    #[test]
    fn a_file_needs_a_header() {
        let check = |text: &str| lines_found(header_is_present_and_short, "a.rs", text);
        assert!(check("//! Why.\n\nuse a;\n").is_empty());
        assert!(check("#![no_std]\n//! Why.\n").is_empty());
        assert_eq!(check("use a;\n"), [1]);
        assert!(lines_found(header_is_present_and_short, "src/a/tests.rs", "use a;\n").is_empty());
    }

    #[test]
    fn a_header_has_at_most_ten_lines_besides_its_example() {
        let check = |path: &str, text: &str| lines_found(header_is_present_and_short, path, text);
        assert!(check("a.rs", &"//! x\n".repeat(10)).is_empty());
        assert_eq!(check("a.rs", &"//! x\n".repeat(11)), [1]);
        let example = format!("//! ```\n{}//! ```\n", "//! code\n".repeat(20));
        assert!(check("a.rs", &format!("//! Why.\n{example}//! End.\n")).is_empty());
        assert!(check("crates/client/src/lib.rs", &"//! x\n".repeat(30)).is_empty());
    }

    #[test]
    fn remarks_have_at_most_ten_lines() {
        assert!(lines_found(comments_are_short, "a.rs", &"    // x\n".repeat(10)).is_empty());
        assert_eq!(lines_found(comments_are_short, "a.rs", &"// x\n".repeat(30)), [11]);
        assert!(lines_found(comments_are_short, "a.rs", &"/// x\n".repeat(30)).is_empty());
        assert!(lines_found(comments_are_short, "a.rs", &"// | x |\n".repeat(30)).is_empty());
    }

    #[test]
    fn vague_file_names_are_found() {
        assert_eq!(lines_found(file_name_says_what_it_is, "src/utils.rs", ""), [0]);
        assert_eq!(lines_found(file_name_says_what_it_is, "src/map_manager.rs", ""), [0]);
        assert!(lines_found(file_name_says_what_it_is, "src/expiry.rs", "").is_empty());
    }
}
