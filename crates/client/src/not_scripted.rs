//! Methods of nodes for tests that no test asks for. The operator's tests have this file, too.
//!
//! Where it is used `Answer`, `Pin`, `Request`, `Status` and `v1` have to be known.

macro_rules! not_scripted {
    ($($method:ident: $request:ident -> $answer:ident;)*) => {$(
        fn $method<'a, 'r>(
            &'a self,
            _: Request<v1::$request>,
        ) -> Pin<Box<dyn Future<Output = Answer<v1::$answer>> + Send + 'r>>
        where
            'a: 'r,
            Self: 'r,
        {
            Box::pin(async { Err(Status::unimplemented("not in the script")) })
        }
    )*};
}

pub(crate) use not_scripted;
