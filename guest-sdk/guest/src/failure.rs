//! A function's refusal of an entry.

use std::error::Error;
use std::fmt;

use wattle_frame::FrameError;

/// The function refuses: the entry stays as it was, and the caller gets this.
///
/// Errors of your own become failures by `impl From<MyError> for Failure`; then `?` works in a function that returns
/// `Result<_, Failure>`, and a function may return `Result<_, MyError>` as well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    code: u32,
    message: String,
}

impl Failure {
    /// The entry's value cannot be read in the function's format and type.
    pub const UNREADABLE_VALUE: u32 = 0xffff_0001;
    /// The argument cannot be read in the function's format and type.
    pub const UNREADABLE_ARGUMENT: u32 = 0xffff_0002;
    /// The new value or the response cannot be written in the function's format.
    pub const UNWRITABLE_ANSWER: u32 = 0xffff_0003;
    /// The key is not text, but the function takes it as text.
    pub const KEY_NOT_TEXT: u32 = 0xffff_0004;
    /// The grid and the module do not understand each other.
    pub const PROTOCOL: u32 = 0xffff_0005;

    /// A failure with a code for programs and a message for people. Codes from `0xffff_0000` are this crate's.
    pub fn new(code: u32, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// For programs.
    pub fn code(&self) -> u32 {
        self.code
    }

    /// For people.
    pub fn message(&self) -> &str {
        &self.message
    }

    #[cfg(target_arch = "wasm32")]
    pub(crate) fn into_message(self) -> String {
        self.message
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (code {})", self.message, self.code)
    }
}

impl Error for Failure {}

/// The message leaves out what the error knows beyond its kind: a frame that the grid wrote is damaged only when the
/// two are of different versions, and the text for every kind would make every module a tenth larger.
impl From<FrameError> for Failure {
    #[cold]
    #[inline(never)]
    fn from(error: FrameError) -> Self {
        let message = match error {
            FrameError::Format { .. } => {
                "the grid writes frames in another format: build the module with its SDK"
            }
            FrameError::TooLong { .. } => "the answers together are longer than a frame can be",
            _ => "the grid's frame cannot be read: build the module with its SDK",
        };
        Self::new(Self::PROTOCOL, message)
    }
}
