//! Asks whether something is meant that cannot be taken back.

use std::io::{self, BufRead, IsTerminal, Write};

use crate::cli::exit::Usage;

/// Asks whoever is at the terminal.
pub(super) fn is_meant(question: &str) -> anyhow::Result<bool> {
    if !io::stdin().is_terminal() {
        return Err(Usage("say --yes: nobody is there to be asked".to_owned()).into());
    }
    let mut error = io::stderr();
    write!(error, "{question} [y/N] ")?;
    error.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
