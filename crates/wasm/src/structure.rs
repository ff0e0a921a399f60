//! One walk over a module or component, with all that it nests: what it is made of, counted against the limits,
//! and what the outside of it offers and wants.

use serde::{Deserialize, Serialize};
use wasmparser::{
    CanonicalFunction, CanonicalOption, ComponentExternalKind, ComponentTypeRef, FunctionBody, Operator,
    Parser, Payload,
};

use crate::inspect::ModuleError;
use crate::limits;

/// What a module can have too much of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum Countable {
    #[error("types")]
    Types,
    #[error("functions")]
    Functions,
    #[error("imports")]
    Imports,
    #[error("exports")]
    Exports,
    #[error("globals")]
    Globals,
    #[error("data segments")]
    DataSegments,
    #[error("element segments")]
    ElementSegments,
    #[error("nested modules and components")]
    NestedModules,
    #[error("bytes in one function")]
    FunctionBytes,
    #[error("locals in one function")]
    Locals,
    #[error("nested blocks in one function")]
    BlockNesting,
}

impl Countable {
    fn limit(self) -> u64 {
        match self {
            Self::Types => limits::TYPES,
            Self::Functions => limits::FUNCTIONS,
            Self::Imports => limits::IMPORTS,
            Self::Exports => limits::EXPORTS,
            Self::Globals => limits::GLOBALS,
            Self::DataSegments => limits::DATA_SEGMENTS,
            Self::ElementSegments => limits::ELEMENT_SEGMENTS,
            Self::NestedModules => limits::NESTED_MODULES,
            Self::FunctionBytes => limits::FUNCTION_BYTES,
            Self::Locals => limits::LOCALS,
            Self::BlockNesting => limits::BLOCK_NESTING,
        }
    }

    pub(crate) fn check(self, found: u64) -> Result<(), ModuleError> {
        let limit = self.limit();
        if found > limit { Err(ModuleError::TooMuch { what: self, found, limit }) } else { Ok(()) }
    }
}

/// What a module or component shows.
#[derive(Debug, Default)]
pub(crate) struct Structure {
    counts: Counts,
    /// How deep the walk is in nested modules and components.
    depth: u32,
    /// Of a component.
    pub(crate) imports: Vec<String>,
    /// Functions that a component exports.
    pub(crate) exports: Vec<String>,
    /// Of a core module: the modules that it imports from.
    pub(crate) core_imports: Vec<String>,
    pub(crate) has_component_type: bool,
    pub(crate) has_post_return: bool,
    pub(crate) makes_resources: bool,
}

#[derive(Debug, Default)]
struct Counts {
    types: u64,
    functions: u64,
    imports: u64,
    exports: u64,
    globals: u64,
    data: u64,
    elements: u64,
    nested: u64,
}

impl Structure {
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, ModuleError> {
        let mut structure = Self::default();
        for payload in Parser::new(0).parse_all(bytes) {
            structure.add(payload?)?;
        }
        Ok(structure)
    }

    fn add(&mut self, payload: Payload<'_>) -> Result<(), ModuleError> {
        use Countable::*;
        let counts = &mut self.counts;
        match payload {
            Payload::Version { .. } => {
                self.depth += 1;
                count(NestedModules, &mut counts.nested, 1)
            }
            Payload::End(_) => {
                self.depth = self.depth.saturating_sub(1);
                Ok(())
            }
            Payload::TypeSection(section) => count(Types, &mut counts.types, section.count()),
            Payload::ComponentTypeSection(section) => count(Types, &mut counts.types, section.count()),
            Payload::CoreTypeSection(section) => count(Types, &mut counts.types, section.count()),
            Payload::FunctionSection(section) => count(Functions, &mut counts.functions, section.count()),
            Payload::ImportSection(section) => {
                count(Imports, &mut counts.imports, section.count())?;
                self.add_core_imports(section)
            }
            Payload::ComponentImportSection(section) => {
                count(Imports, &mut counts.imports, section.count())?;
                self.add_imports(section)
            }
            Payload::ExportSection(section) => count(Exports, &mut counts.exports, section.count()),
            Payload::ComponentExportSection(section) => {
                count(Exports, &mut counts.exports, section.count())?;
                self.add_exports(section)
            }
            Payload::GlobalSection(section) => count(Globals, &mut counts.globals, section.count()),
            Payload::DataSection(section) => count(DataSegments, &mut counts.data, section.count()),
            Payload::ElementSection(section) => count(ElementSegments, &mut counts.elements, section.count()),
            Payload::CodeSectionEntry(body) => check_body(&body),
            Payload::ComponentCanonicalSection(section) => self.add_canonicals(section),
            Payload::CustomSection(section) => {
                self.has_component_type |= self.depth == 1 && section.name().starts_with("component-type");
                Ok(())
            }
            // What is left has no size of its own that compiling it depends on, and is checked by the validator.
            _ => Ok(()),
        }
    }

    fn add_core_imports(&mut self, section: wasmparser::ImportSectionReader<'_>) -> Result<(), ModuleError> {
        if self.depth == 1 {
            for import in section.into_imports() {
                let import = import?;
                self.core_imports.push(import.module.to_owned());
            }
        }
        Ok(())
    }

    fn add_imports(
        &mut self,
        section: wasmparser::ComponentImportSectionReader<'_>,
    ) -> Result<(), ModuleError> {
        if self.depth == 1 {
            for import in section {
                let import = import?;
                // A world that uses a type imports its name; only things that can be called count.
                if !matches!(import.ty, ComponentTypeRef::Type(_)) {
                    self.imports.push(import.name.name.to_owned());
                }
            }
        }
        Ok(())
    }

    fn add_exports(
        &mut self,
        section: wasmparser::ComponentExportSectionReader<'_>,
    ) -> Result<(), ModuleError> {
        if self.depth == 1 {
            for export in section {
                let export = export?;
                if export.kind == ComponentExternalKind::Func {
                    self.exports.push(export.name.name.to_owned());
                }
            }
        }
        Ok(())
    }

    fn add_canonicals(
        &mut self,
        section: wasmparser::ComponentCanonicalSectionReader<'_>,
    ) -> Result<(), ModuleError> {
        for function in section {
            match function? {
                // Which export a lift becomes takes more bookkeeping than it is worth: any of them counts.
                CanonicalFunction::Lift { options, .. } => {
                    self.has_post_return |=
                        options.iter().any(|option| matches!(option, CanonicalOption::PostReturn(_)));
                }
                CanonicalFunction::ResourceNew { .. } => self.makes_resources = true,
                // The validator refuses those whose features are off.
                _ => {}
            }
        }
        Ok(())
    }
}

fn count(what: Countable, sum: &mut u64, more: u32) -> Result<(), ModuleError> {
    *sum += u64::from(more);
    what.check(*sum)
}

fn check_body(body: &FunctionBody<'_>) -> Result<(), ModuleError> {
    Countable::FunctionBytes.check(body.range().len() as u64)?;
    let mut locals = 0;
    for local in body.get_locals_reader()? {
        let (more, _) = local?;
        count(Countable::Locals, &mut locals, more)?;
    }
    let mut nesting = 0_u64;
    for operator in body.get_operators_reader()? {
        match operator? {
            Operator::Block { .. }
            | Operator::Loop { .. }
            | Operator::If { .. }
            | Operator::TryTable { .. } => {
                nesting += 1;
                Countable::BlockNesting.check(nesting)?;
            }
            Operator::End => nesting = nesting.saturating_sub(1),
            // The rest of some six hundred operators opens no block.
            _ => {}
        }
    }
    Ok(())
}
