//! What can be told of a CEL rule from its schema alone: fields and variables that are not there, and what it comes to.
//!
//! It refuses nothing that the real server takes: where it does not know a type, anything goes.

use std::collections::HashMap;
use std::fmt;

use cel::Program;
use cel::common::ast::{CallExpr, ComprehensionExpr, Expr, IdedExpr, LiteralValue, SelectExpr};
use serde_json::{Value, json};

use super::rules::escaped;
use crate::object;
use crate::schema::Schema;

/// What the compiler of the real server would say of a rule.
#[derive(Debug)]
pub(super) enum TypeError {
    UndefinedField { field: String, at: Place },
    Undeclared { name: String, at: Place },
}

/// Where in a rule something is wrong, from one on.
#[derive(Debug)]
pub(super) struct Place {
    line: usize,
    column: usize,
    /// The whole line.
    shown: String,
}

impl fmt::Display for TypeError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::UndefinedField { at, .. } | Self::Undeclared { at, .. }) = self;
        write!(formatter, "ERROR: <input>:{}:{}: ", at.line, at.column)?;
        match self {
            Self::UndefinedField { field, .. } => write!(formatter, "undefined field '{field}'"),
            Self::Undeclared { name, .. } => {
                write!(formatter, "undeclared reference to '{name}' (in container '')")
            }
        }?;
        write!(formatter, "\n | {}\n | {}^", at.shown, ".".repeat(at.column - 1))
    }
}

/// As much of a type as is known.
#[derive(Debug, Clone, Copy)]
pub(super) enum Type<'a> {
    Unknown,
    Bool,
    /// A number, a text, a list literal: no object, and no bool.
    Other,
    Object(Schema<'a>),
    /// A list or a map, by its values.
    Many(Option<Schema<'a>>),
}

impl Type<'_> {
    pub(super) fn is_not_bool(self) -> bool {
        matches!(self, Self::Other | Self::Object(_) | Self::Many(_))
    }

    fn kind(self) -> Type<'static> {
        match self {
            Self::Unknown => Type::Unknown,
            Self::Bool => Type::Bool,
            Self::Other | Self::Object(_) | Self::Many(_) => Type::Other,
        }
    }
}

/// The type of what a rule of a schema comes to.
pub(super) fn check(program: &Program, schema: &Value, is_root: bool) -> Result<Type<'static>, TypeError> {
    let mut schema = schema.clone();
    if is_root || schema["x-kubernetes-embedded-resource"] == true {
        let text = json!({"type": "string"});
        let names = json!({"type": "object", "properties": {"name": text, "generateName": text}});
        let fields = object::child(&mut schema, "properties");
        for (name, field) in [("apiVersion", text.clone()), ("kind", text), ("metadata", names)] {
            fields.insert(name.to_owned(), field);
        }
    }
    let own = of_schema(Schema::new(&schema));
    let mut typing = Typing { program, variables: HashMap::from([("self", own), ("oldSelf", own)]) };
    typing.infer(program.expression()).map(Type::kind)
}

fn of_schema(schema: Schema<'_>) -> Type<'_> {
    if schema.is_int_or_string() {
        return Type::Unknown;
    }
    match schema.type_name() {
        Some("boolean") => Type::Bool,
        Some("integer" | "number" | "string") => Type::Other,
        Some("array") => Type::Many(schema.items()),
        Some("object") if schema.has_properties() => Type::Object(schema),
        Some("object") if schema.additional().is_some() => Type::Many(schema.additional()),
        _ => Type::Unknown,
    }
}

struct Typing<'a> {
    program: &'a Program,
    variables: HashMap<&'a str, Type<'a>>,
}

impl<'a> Typing<'a> {
    fn infer(&mut self, node: &'a IdedExpr) -> Result<Type<'a>, TypeError> {
        match &node.expr {
            Expr::Ident(name) => self.variable(node, name),
            Expr::Select(select) => self.select(node, select),
            Expr::Call(call) => self.call(call),
            Expr::Comprehension(loops) => self.comprehension(loops),
            Expr::Literal(LiteralValue::Boolean(_)) => Ok(Type::Bool),
            Expr::Literal(LiteralValue::Null) | Expr::Struct(_) | Expr::Unspecified => Ok(Type::Unknown),
            Expr::Literal(_) | Expr::Map(_) => Ok(Type::Other),
            Expr::List(items) => {
                for item in &items.elements {
                    self.infer(item)?;
                }
                Ok(Type::Many(None))
            }
        }
    }

    fn variable(&self, node: &IdedExpr, name: &str) -> Result<Type<'a>, TypeError> {
        // Types are values too.
        const TYPES: [&str; 13] = [
            "bool",
            "bytes",
            "double",
            "duration",
            "dyn",
            "int",
            "list",
            "map",
            "null_type",
            "string",
            "timestamp",
            "type",
            "uint",
        ];
        match self.variables.get(name) {
            Some(found) => Ok(*found),
            None if TYPES.contains(&name) => Ok(Type::Other),
            None => Err(TypeError::Undeclared { name: name.to_owned(), at: self.place(node) }),
        }
    }

    fn select(&mut self, node: &IdedExpr, select: &'a SelectExpr) -> Result<Type<'a>, TypeError> {
        if self.is_namespace(&select.operand) {
            return Ok(Type::Unknown);
        }
        let field = match self.infer(&select.operand)? {
            Type::Object(schema) => {
                let found = schema.properties().find(|(name, _)| escaped(name) == select.field);
                if found.is_none() && !schema.keeps_unknown_fields() {
                    let field = select.field.clone();
                    return Err(TypeError::UndefinedField { field, at: self.place(node) });
                }
                found.map_or(Type::Unknown, |(_, field)| of_schema(field))
            }
            Type::Many(Some(values)) => of_schema(values),
            Type::Many(None) | Type::Unknown | Type::Bool | Type::Other => Type::Unknown,
        };
        Ok(if select.test { Type::Bool } else { field })
    }

    /// The first part of a function's name, such as `optional.none`.
    fn is_namespace(&self, node: &IdedExpr) -> bool {
        const NAMESPACES: [&str; 14] = [
            "base64",
            "cel",
            "cidr",
            "format",
            "google",
            "ip",
            "k8s",
            "kubernetes",
            "lists",
            "math",
            "net",
            "optional",
            "sets",
            "strings",
        ];
        matches!(&node.expr, Expr::Ident(name)
            if NAMESPACES.contains(&name.as_str()) && !self.variables.contains_key(name.as_str()))
    }

    fn call(&mut self, call: &'a CallExpr) -> Result<Type<'a>, TypeError> {
        if call.target.as_ref().is_some_and(|target| self.is_namespace(target)) {
            // Macros of libraries bring variables of their own.
            return Ok(Type::Unknown);
        }
        let target = call.target.as_deref().map(|target| self.infer(target)).transpose()?;
        let mut arguments = Vec::new();
        for argument in &call.args {
            arguments.push(self.infer(argument)?);
        }
        Ok(match (call.func_name.as_str(), arguments.as_slice()) {
            ("_[_]", [Type::Many(Some(values)), _]) => of_schema(*values),
            ("_?_:_", [_, Type::Bool, Type::Bool]) => Type::Bool,
            ("_?_:_", [_, yes, no]) if yes.is_not_bool() && no.is_not_bool() => Type::Other,
            (
                "_&&_"
                | "_||_"
                | "!_"
                | "_==_"
                | "_!=_"
                | "_<_"
                | "_<=_"
                | "_>_"
                | "_>=_"
                | "@in"
                | "@not_strictly_false",
                _,
            ) => Type::Bool,
            ("_+_" | "_-_" | "_*_" | "_/_" | "_%_" | "-_", _) => Type::Other,
            ("size" | "int" | "uint" | "double" | "string" | "bytes", _) => Type::Other,
            ("matches" | "startsWith" | "endsWith" | "contains", _) if target.is_some() => Type::Bool,
            _ => Type::Unknown,
        })
    }

    fn comprehension(&mut self, loops: &'a ComprehensionExpr) -> Result<Type<'a>, TypeError> {
        let range = self.infer(&loops.iter_range)?;
        let values = match range {
            // The variable over a map is its key.
            Type::Many(Some(values)) if self.is_list(&loops.iter_range) => of_schema(values),
            _ => Type::Unknown,
        };
        let start = self.infer(&loops.accu_init)?;
        let one_of_two = loops.iter_var2.is_some();
        let mut bound = vec![
            (loops.iter_var.as_str(), if one_of_two { Type::Unknown } else { values }),
            (loops.accu_var.as_str(), start),
        ];
        bound.extend(loops.iter_var2.as_deref().map(|name| (name, Type::Unknown)));
        let outer = self.variables.clone();
        self.variables.extend(bound);
        let inner = [&loops.loop_cond, &loops.loop_step, &loops.result].map(|part| self.infer(part));
        self.variables = outer;
        let [condition, step, result] = inner;
        condition.and(step).and(result)
    }

    /// Whether an expression is certainly a list.
    fn is_list(&self, node: &'a IdedExpr) -> bool {
        let schema = match &node.expr {
            Expr::Select(select) => match &select.operand.expr {
                Expr::Ident(name) => match self.variables.get(name.as_str()) {
                    Some(Type::Object(schema)) => schema
                        .properties()
                        .find(|(name, _)| escaped(name) == select.field)
                        .map(|(_, field)| field),
                    _ => None,
                },
                _ => None,
            },
            _ => None,
        };
        schema.is_some_and(|schema| schema.type_name() == Some("array"))
    }

    fn place(&self, node: &IdedExpr) -> Place {
        let source = self.program.source_info();
        let at = source.offset_for(node.id).map_or(0, |(start, _)| start as usize);
        let before = source.source.get(..at).unwrap_or_default();
        let line = before.matches('\n').count();
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count();
        let shown = source.source.lines().nth(line).unwrap_or_default().to_owned();
        Place { line: line + 1, column: column + 1, shown }
    }
}
