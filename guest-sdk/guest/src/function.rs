//! What a module's manifest says about its functions, and how each is called.

use crate::call::{Answers, Call};
use crate::failure::Failure;
use crate::format::Format;

/// One function of a module.
#[derive(Clone, Copy, Debug)]
pub struct Function {
    name: &'static str,
    read_only: bool,
    deterministic: bool,
    run: Run,
}

/// Runs the function on one entry and writes its answer.
pub(crate) type Run = fn(&Call<'_>, &mut Answers<'_>) -> Result<(), Failure>;

impl Function {
    /// What the grid calls it.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// It answers, and changes nothing.
    pub const fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// The same entry, argument and time give the same answer.
    pub const fn is_deterministic(&self) -> bool {
        self.deterministic
    }

    #[inline]
    pub(crate) fn run(&self, call: &Call<'_>, answers: &mut Answers<'_>) -> Result<(), Failure> {
        (self.run)(call, answers)
    }
}

/// A function under [`entry_processor`](crate::entry_processor). The macro implements it for a type that has the
/// function's name, so that `debit` is the function where a value stands and the processor where a type stands.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an entry processor",
    note = "an entry processor is a function under `#[wattle_guest::entry_processor]`"
)]
pub trait Processor {
    /// How its value, argument and response are written as bytes.
    type Format: Format;
    /// What the manifest says, and how it is called.
    const FUNCTION: Function;
}

pub const fn function(name: &'static str, read_only: bool, deterministic: bool, run: Run) -> Function {
    Function { name, read_only, deterministic, run }
}

/// Stops the compilation of a module that has two functions of one name.
pub const fn check_names(functions: &[Function]) {
    let mut one = 0;
    while one < functions.len() {
        let mut other = one + 1;
        while other < functions.len() {
            assert!(!same(functions[one].name, functions[other].name), "two functions have the same name");
            other += 1;
        }
        one += 1;
    }
}

const fn same(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    if one.len() != other.len() {
        return false;
    }
    let mut place = 0;
    while place < one.len() {
        if one[place] != other[place] {
            return false;
        }
        place += 1;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &'static str) -> Function {
        function(name, false, false, |_, _| Ok(()))
    }

    #[test]
    fn functions_of_different_names_pass() {
        check_names(&[named("a"), named("b"), named("ab")]);
    }

    #[test]
    #[should_panic(expected = "two functions have the same name")]
    fn functions_of_one_name_are_refused() {
        check_names(&[named("a"), named("b"), named("a")]);
    }
}
