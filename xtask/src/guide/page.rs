//! The commands of the guide: its blocks for a shell, as one script.

const PAGE: &str = "docs/kubernetes.md";
/// What is above it is for a cluster, or for the stand-in.
const BEGIN: &str = "The rest is the same for both.";
const BLOCK: &str = "```sh";
const END: &str = "```";
/// Ends at the first command that fails, and says which; ends what runs in the background with it.
const HEAD: &str = r#"set -eE; PS4='+ docs/kubernetes.md:$LINENO: '; trap 'echo "FAILED docs/kubernetes.md:$LINENO: $BASH_COMMAND"' ERR; trap '{ set +ex; trap - ERR; kill $(jobs -p); wait; } 2> /dev/null' EXIT; set -x"#;

pub(super) fn path() -> std::path::PathBuf {
    crate::command::root().join(PAGE)
}

/// Every line of the page is the same line of the script: a command, or nothing. The first one is the title.
pub(super) fn script(page: &str) -> String {
    let mut lines = vec![HEAD];
    let (mut has_begun, mut is_block) = (false, false);
    for line in page.lines().skip(1) {
        has_begun = has_begun || line.starts_with(BEGIN);
        let is_command = is_block && line != END;
        lines.push(if is_command { line } else { "" });
        is_block = is_command || (has_begun && line == BLOCK);
    }
    lines.join("\n") + "\n"
}

/// A command that the script shows before it runs it: the line of the page, and the command.
pub(super) fn shown(line: &str) -> Option<(&str, &str)> {
    let (place, command) = line.strip_prefix("+ ")?.split_once(": ")?;
    place.starts_with(PAGE).then_some((place, command))
}

/// Where the script says that it fails.
pub(super) fn failed(line: &str) -> Option<&str> {
    line.strip_prefix("FAILED ").filter(|place| place.starts_with(PAGE))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# Title\n\n```sh\nbefore\n```\n\nThe rest is the same for both. And more.\n\n```sh\nfirst \\\n  more\n```\n\
                        text\n\n```toml\nno = 1\n```\n```sh\nsecond\n```\n";

    #[test]
    fn the_script_has_the_commands_at_the_lines_of_the_page() {
        let script = script(TEXT);
        let lines: Vec<&str> = script.lines().collect();
        assert_eq!(lines.len(), TEXT.lines().count());
        let commands: Vec<(usize, &str)> =
            lines.iter().copied().enumerate().skip(1).filter(|(_, line)| !line.is_empty()).collect();
        assert_eq!(commands, [(9, "first \\"), (10, "  more"), (18, "second")]);
    }

    #[test]
    fn what_the_shell_shows_and_says_is_told_from_what_commands_print() {
        assert_eq!(
            shown("+ docs/kubernetes.md:7: wattle map size m"),
            Some(("docs/kubernetes.md:7", "wattle map size m"))
        );
        assert_eq!(failed("FAILED docs/kubernetes.md:9: false"), Some("docs/kubernetes.md:9: false"));
        assert_eq!(shown("a + b: c"), None);
        assert_eq!(failed("FAILED elsewhere"), None);
    }
}
