//! The attribute macro of `wattle-guest`: it turns an ordinary function into an entry processor.
//!
//! It only checks and wires: options in `options`, the function's shape in `signature`, the generated
//! code in `expand`. What the generated code calls lives in `wattle-guest`, never here.

mod expand;
mod options;
mod signature;

use proc_macro::TokenStream;

use crate::options::Options;
use crate::signature::Signature;

/// Makes an entry processor of a function. Documented, with examples, as `wattle_guest::entry_processor`.
#[proc_macro_attribute]
pub fn entry_processor(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let expanded = syn::parse::<Options>(arguments).and_then(|options| {
        let function = syn::parse(item.clone())?;
        let signature = Signature::of(&function)?;
        expand::processor(&options, &signature, &function)
    });
    match expanded {
        Ok(tokens) => tokens.into(),
        // The function itself stays, so that its callers do not add errors of their own.
        Err(error) => [TokenStream::from(error.to_compile_error()), item].into_iter().collect(),
    }
}
