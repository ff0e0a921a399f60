//! Guests written in the text format, small enough to see through.

use wit_component::{StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

const WIT: &str = include_str!("../../../../wit/wattle.wit");

/// Adds one to the number in each entry, and answers with the new number.
const COUNT_UP: &str = r#"
  (local $count i32) (local $place i32) (local $slot i32) (local $out i32) (local $arena i32) (local $value i64)
  (local.set $count (i32.load offset=8 (local.get $frame)))
  (local.set $arena (i32.add (i32.const 16) (i32.mul (local.get $count) (i32.const 32))))
  (block $done (loop $next
    (br_if $done (i32.eq (local.get $place) (local.get $count)))
    (local.set $slot (i32.add (i32.add (local.get $frame) (i32.const 48)) (i32.mul (local.get $place) (i32.const 40))))
    (local.set $value (i64.const 0))
    (if (i32.ne (i32.load offset=8 (local.get $slot)) (i32.const -1)) (then
      (local.set $value (i64.load (i32.add (local.get $frame) (i32.load offset=8 (local.get $slot)))))))
    (local.set $value (i64.add (local.get $value) (i64.const 1)))
    (i64.store (i32.add (i32.const 131072) (local.get $arena)) (local.get $value))
    (i64.store offset=8 (i32.add (i32.const 131072) (local.get $arena)) (local.get $value))
    (local.set $out (i32.add (i32.const 131088) (i32.mul (local.get $place) (i32.const 32))))
    (i64.store (local.get $out) (i64.const 1))
    (i32.store offset=8 (local.get $out) (local.get $arena))
    (i32.store offset=12 (local.get $out) (i32.const 8))
    (i32.store offset=16 (local.get $out) (i32.add (local.get $arena) (i32.const 8)))
    (i32.store offset=20 (local.get $out) (i32.const 8))
    (i64.store offset=24 (local.get $out) (i64.const 0))
    (local.set $arena (i32.add (local.get $arena) (i32.const 16)))
    (local.set $place (i32.add (local.get $place) (i32.const 1)))
    (br $next)))
  (i32.store (i32.const 131072) (i32.const 1))
  (i32.store offset=4 (i32.const 131072) (local.get $count))
  (i32.store offset=8 (i32.const 131072) (local.get $arena))
  (i32.store offset=12 (i32.const 131072) (i32.const 0))
  (call $return (i32.const 131072) (local.get $arena))
"#;

/// What a guest is made of: the counter, unless parts are replaced.
#[derive(Debug, Clone)]
pub(crate) struct Guest {
    process: String,
    /// Run in each call of `cabi_realloc`, before it does its work.
    before_allocation: String,
    more: String,
    names: Vec<String>,
    read_only: bool,
    /// Of 64 KiB, that the memory has from the start.
    pages: u32,
    world: String,
}

impl Guest {
    pub(crate) fn counter() -> Self {
        Self {
            process: format!(
                r#"(func (export "process") (param $frame i32) (param $length i32) (result i32) {COUNT_UP})"#
            ),
            before_allocation: String::new(),
            more: String::new(),
            names: vec!["counter".to_owned()],
            read_only: false,
            pages: 32,
            world: "world w { include wattle:grid/entry-processor@0.1.0; }".to_owned(),
        }
    }

    /// A guest whose `process` does this, and returns what it leaves on the stack.
    pub(crate) fn doing(body: &str) -> Self {
        Self {
            process: format!(
                r#"(func $process (export "process") (param $frame i32) (param $length i32) (result i32) {body})"#
            ),
            ..Self::counter()
        }
    }

    /// A guest that returns this reply frame whatever it is asked.
    pub(crate) fn replying(frame: &[u8]) -> Self {
        let data: String = frame.iter().map(|byte| format!("\\{byte:02x}")).collect();
        let length = frame.len();
        Self::doing(&format!("(call $return (i32.const 131072) (i32.const {length}))"))
            .with(&format!(r#"(data (i32.const 131072) "{data}")"#))
    }

    /// A guest of the simple world whose `process-entry` does this.
    pub(crate) fn simple(body: &str) -> Self {
        Self {
            process: format!(
                r#"(func (export "process-entry")
                  (param $function i32) (param $map i32) (param $map-length i32) (param $now i64)
                  (param $key i32) (param $key-length i32)
                  (param $has-value i32) (param $value i32) (param $value-length i32) (param $version i64)
                  (param $has-ttl i32) (param $ttl i64)
                  (param $argument i32) (param $argument-length i32) (result i32)
                  {body})"#
            ),
            world: "world w { include wattle:grid/simple-entry-processor@0.1.0; }".to_owned(),
            ..Self::counter()
        }
    }

    pub(crate) fn read_only(self) -> Self {
        Self { read_only: true, ..self }
    }

    pub(crate) fn of_pages(self, pages: u32) -> Self {
        Self { pages, ..self }
    }

    pub(crate) fn named(self, name: &str) -> Self {
        Self { names: vec![name.to_owned()], ..self }
    }

    /// Another function, which does the same unless `process` looks which of them it is.
    pub(crate) fn and(mut self, name: &str) -> Self {
        self.names.push(name.to_owned());
        self
    }

    pub(crate) fn before_allocation(self, body: &str) -> Self {
        Self { before_allocation: body.to_owned(), ..self }
    }

    /// More fields of the module; imports go to the front.
    pub(crate) fn with(self, more: &str) -> Self {
        Self { more: format!("{more}\n{}", self.more), ..self }
    }

    /// Another world, and the packages that it uses.
    pub(crate) fn of_world(self, world: &str) -> Self {
        Self { world: world.to_owned(), ..self }
    }

    pub(crate) fn text(&self) -> String {
        let Self { process, before_allocation, more, names, read_only, pages, .. } = self;
        let (names, functions) = (names.concat(), self.functions(u32::from(*read_only)));
        let count = self.names.len();
        format!(
            r#"(module
              {more}
              (memory (export "memory") {pages})
              (global $arena (mut i32) (i32.const 1048576))
              (data (i32.const 1024) "{names}")
              (func $return (param $at i32) (param $length i32) (result i32)
                (global.set $arena (i32.const 1048576))
                (i32.store8 (i32.const 2048) (i32.const 0))
                (i32.store offset=4 (i32.const 2048) (local.get $at))
                (i32.store offset=8 (i32.const 2048) (local.get $length))
                (i32.const 2048))
              (func $cabi_realloc (export "cabi_realloc") (param i32 i32 i32) (param $length i32) (result i32)
                (local $at i32)
                {before_allocation}
                (local.set $at (i32.and (i32.add (global.get $arena) (i32.const 7)) (i32.const -8)))
                (global.set $arena (i32.add (local.get $at) (local.get $length)))
                (local.get $at))
              (func (export "manifest") (result i32)
                (i32.store (i32.const 3072) (i32.const 3088))
                (i32.store offset=4 (i32.const 3072) (i32.const {count}))
                {functions}
                (i32.const 3072))
              {process})"#
        )
    }

    /// Writes the manifest's functions: the place and length of each name, and the flags.
    fn functions(&self, flags: u32) -> String {
        let (mut name_at, mut at, mut stores) = (1024, 3088, String::new());
        for name in &self.names {
            for (offset, number) in [(0, name_at), (4, name.len()), (8, flags as usize)] {
                stores += &format!("(i32.store offset={offset} (i32.const {at}) (i32.const {number}))");
            }
            (name_at, at) = (name_at + name.len(), at + 12);
        }
        stores
    }

    /// The core module, without a component type.
    pub(crate) fn core(&self) -> Vec<u8> {
        wat::parse_str(self.text()).expect("the guest's text is well-formed")
    }

    /// The module as it would be uploaded.
    pub(crate) fn module(&self) -> Vec<u8> {
        let mut module = self.core();
        let mut resolve = Resolve::default();
        resolve.push_str("wattle.wit", WIT).expect("the interface is well-formed");
        let world = format!("package guest:test;\n{}", self.world);
        let package = resolve.push_str("guest.wit", &world).expect("the world is well-formed");
        let world = resolve.select_world(&[package], Some("w")).expect("the world is there");
        embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)
            .expect("the world can be encoded");
        module
    }
}
