//! The shape that a function must have to be an entry processor, and the errors that say so.

use proc_macro2::Span;
use syn::spanned::Spanned;
use syn::{Error, FnArg, GenericParam, ItemFn, PatType, Result, ReturnType, Type};

/// What the generated code needs to know about the function.
pub(crate) struct Signature {
    /// Where complaints about the value's type belong.
    pub(crate) entry: Span,
    /// It takes `&Entry<…>`, so that it cannot change anything.
    pub(crate) read_only: bool,
    /// Where complaints about the argument's type belong, when there is an argument.
    pub(crate) argument: Option<Span>,
    pub(crate) returns: Returns,
}

/// What the function gives back.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Returns {
    /// A response, or nothing.
    Response(Span),
    /// `Result<…>`: a response or a failure.
    Result(Span),
}

const SHAPE: &str = "an entry processor takes `&mut Entry<…>` (or `&Entry<…>` when it only reads) and at most \
                     one argument";

impl Signature {
    pub(crate) fn of(function: &ItemFn) -> Result<Self> {
        refuse_qualifiers(function)?;
        let mut parameters = function.sig.inputs.iter();
        let Some(first) = parameters.next() else {
            return Err(Error::new(function.sig.paren_token.span.join(), SHAPE));
        };
        let entry = typed(first)?;
        let Type::Reference(reference) = &*entry.ty else {
            return Err(Error::new(entry.ty.span(), SHAPE));
        };
        let argument = parameters.next().map(typed).transpose()?;
        if let Some(third) = parameters.next() {
            let advice = format!("{SHAPE}; put several into a struct");
            return Err(Error::new(third.span(), advice));
        }
        Ok(Self {
            entry: reference.elem.span(),
            read_only: reference.mutability.is_none(),
            argument: argument.map(|argument| argument.ty.span()),
            returns: returns(&function.sig.output),
        })
    }
}

fn typed(parameter: &FnArg) -> Result<&PatType> {
    match parameter {
        FnArg::Typed(typed) => Ok(typed),
        FnArg::Receiver(receiver) => {
            Err(Error::new(receiver.span(), format!("{SHAPE}; it cannot be a method")))
        }
    }
}

fn refuse_qualifiers(function: &ItemFn) -> Result<()> {
    let signature = &function.sig;
    if let Some(qualifier) = &signature.asyncness {
        return Err(Error::new(
            qualifier.span,
            "an entry processor runs under its partition: it cannot wait",
        ));
    }
    if let Some(qualifier) = &signature.unsafety {
        return Err(Error::new(
            qualifier.span,
            "an entry processor is called by the grid: it cannot be unsafe",
        ));
    }
    let generic = signature.generics.params.iter().find(|parameter| match parameter {
        GenericParam::Type(_) | GenericParam::Const(_) => true,
        GenericParam::Lifetime(_) => false,
    });
    match generic {
        Some(parameter) => {
            let message = "an entry processor has one type of value and argument: it cannot be generic";
            Err(Error::new(parameter.span(), message))
        }
        None => Ok(()),
    }
}

fn returns(output: &ReturnType) -> Returns {
    let ReturnType::Type(_, returned) = output else {
        return Returns::Response(output.span());
    };
    let span = returned.span();
    match &**returned {
        Type::Path(path) if path.path.segments.last().is_some_and(|last| last.ident == "Result") => {
            Returns::Result(span)
        }
        // A type that is not spelled `Result` is a response, whatever it is.
        _ => Returns::Response(span),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signature_of(function: &str) -> Result<Signature> {
        Signature::of(&syn::parse_str(function).unwrap())
    }

    fn check_refused(function: &str, expected: &str) {
        let Err(error) = signature_of(function) else { panic!("accepted: {function}") };
        assert!(error.to_string().contains(expected), "{error}");
    }

    #[test]
    fn shared_reference_means_read_only() {
        assert!(signature_of("fn f(entry: &Entry<u8>) {}").unwrap().read_only);
        assert!(!signature_of("fn f(entry: &mut Entry<u8>) {}").unwrap().read_only);
    }

    #[test]
    fn result_is_known_by_its_name() {
        let of = |output: &str| signature_of(&format!("fn f(e: &Entry<u8>) {output} {{}}")).unwrap().returns;
        assert!(matches!(of("-> Result<u8, Failure>"), Returns::Result(_)));
        assert!(matches!(of("-> std::result::Result<u8, Failure>"), Returns::Result(_)));
        assert!(matches!(of("-> u8"), Returns::Response(_)));
        assert!(matches!(of("-> &'static str"), Returns::Response(_)));
        assert!(matches!(of(""), Returns::Response(_)));
    }

    #[test]
    fn wrong_shapes_say_what_is_right() {
        check_refused("fn f() {}", "takes `&mut Entry<…>`");
        check_refused("fn f(entry: Entry<u8>) {}", "takes `&mut Entry<…>`");
        check_refused("fn f(&self) {}", "cannot be a method");
        check_refused("fn f(entry: &mut Entry<u8>, a: u8, b: u8) {}", "into a struct");
        check_refused("async fn f(entry: &mut Entry<u8>) {}", "cannot wait");
        check_refused("unsafe fn f(entry: &mut Entry<u8>) {}", "cannot be unsafe");
        check_refused("fn f<V>(entry: &mut Entry<V>) {}", "cannot be generic");
        check_refused("fn f<const N: usize>(entry: &mut Entry<[u8; N]>) {}", "cannot be generic");
    }
}
