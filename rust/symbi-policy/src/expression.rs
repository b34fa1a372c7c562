//! Walks over Cedar's expressions: which counters a condition reads, and which parts it is made of.
//!
//! Invariants
//! - W1 a counter that a condition can read is reported. What cannot be told apart reports all of them.

use cedar_policy_core::ast::{Expr, ExprKind, UnaryOp, Var};

/// The counters that an expression reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Counters {
    /// These.
    Named(Vec<String>),
    /// The record as a whole, or the context as a whole.
    All,
}

/// W1.
pub(crate) fn counters(expression: &Expr) -> Counters {
    let mut names = Vec::new();
    if collect(expression, &mut names) {
        names.sort();
        names.dedup();
        Counters::Named(names)
    } else {
        Counters::All
    }
}

fn is_context(expression: &Expr) -> bool {
    matches!(expression.expr_kind(), ExprKind::Var(Var::Context))
}

fn is_counters(expression: &Expr) -> bool {
    matches!(expression.expr_kind(), ExprKind::GetAttr { expr, attr } if attr == "counters" && is_context(expr))
}

/// False when something reads the whole record.
fn collect(expression: &Expr, names: &mut Vec<String>) -> bool {
    match expression.expr_kind() {
        ExprKind::GetAttr { expr, attr } | ExprKind::HasAttr { expr, attr } if is_counters(expr) => {
            names.push(attr.to_string());
            true
        }
        ExprKind::ExtHasAttr { expr, attrs } if is_context(expr) && attrs.head == "counters" => {
            names.extend(attrs.tail.first().map(ToString::to_string));
            true
        }
        ExprKind::GetAttr { .. } if is_counters(expression) => false,
        ExprKind::GetAttr { expr, .. } | ExprKind::HasAttr { expr, .. } if is_context(expr) => true,
        ExprKind::ExtHasAttr { expr, .. } if is_context(expr) => true,
        ExprKind::Var(Var::Context) => false,
        _ => children(expression).into_iter().all(|child| collect(child, names)),
    }
}

/// The direct parts of an expression.
pub(crate) fn children(expression: &Expr) -> Vec<&Expr> {
    match expression.expr_kind() {
        ExprKind::Lit(_) | ExprKind::Var(_) | ExprKind::Slot(_) | ExprKind::Unknown(_) => Vec::new(),
        ExprKind::If { test_expr, then_expr, else_expr } => vec![test_expr, then_expr, else_expr],
        ExprKind::And { left, right } | ExprKind::Or { left, right } => vec![left, right],
        ExprKind::UnaryApp { arg, .. } => vec![arg],
        ExprKind::BinaryApp { arg1, arg2, .. } => vec![arg1, arg2],
        ExprKind::ExtensionFunctionApp { args, .. } => args.iter().collect(),
        ExprKind::GetAttr { expr, .. }
        | ExprKind::HasAttr { expr, .. }
        | ExprKind::ExtHasAttr { expr, .. }
        | ExprKind::Like { expr, .. }
        | ExprKind::Is { expr, .. } => vec![expr],
        ExprKind::Set(members) => members.iter().collect(),
        ExprKind::Record(pairs) => pairs.values().collect(),
    }
}

/// What all must hold: `a && (b && !(c || d))` is `a`, `b`, `!c`, `!d`.
pub(crate) fn conjuncts(expression: &Expr) -> Vec<Clause<'_>> {
    let mut found = Vec::new();
    split(expression, true, &mut found);
    found
}

/// One conjunct: holds when `expression` is `wanted`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clause<'a> {
    pub expression: &'a Expr,
    pub wanted: bool,
}

fn split<'a>(expression: &'a Expr, wanted: bool, found: &mut Vec<Clause<'a>>) {
    match (expression.expr_kind(), wanted) {
        (ExprKind::And { left, right }, true) | (ExprKind::Or { left, right }, false) => {
            split(left, wanted, found);
            split(right, wanted, found);
        }
        // `a > b` is parsed as `!(a <= b)`, both at the same place: that one stays whole, as its author wrote it.
        (ExprKind::UnaryApp { op: UnaryOp::Not, arg }, _) if arg.source_loc() != expression.source_loc() => {
            split(arg, !wanted, found);
        }
        (ExprKind::Lit(literal), _) if *literal == wanted.into() => {}
        _ => found.push(Clause { expression, wanted }),
    }
}

/// The largest parts that read something: `principal.tier`, `context.call.getTag("x")`, `resource`.
pub(crate) fn reads(expression: &Expr) -> Vec<&Expr> {
    let mut found: Vec<&Expr> = Vec::new();
    walk_reads(expression, &mut found);
    found
}

fn walk_reads<'a>(expression: &'a Expr, found: &mut Vec<&'a Expr>) {
    let reads = match expression.expr_kind() {
        ExprKind::Var(_) => true,
        ExprKind::GetAttr { expr, .. } => is_path(expr),
        ExprKind::BinaryApp { op: cedar_policy_core::ast::BinaryOp::GetTag, arg1, .. } => is_path(arg1),
        _ => false,
    };
    if !reads {
        children(expression).into_iter().for_each(|child| walk_reads(child, found));
    } else if !found.iter().any(|earlier| earlier.eq_shape(expression)) {
        found.push(expression);
    }
}

fn is_path(expression: &Expr) -> bool {
    match expression.expr_kind() {
        ExprKind::Var(_) => true,
        ExprKind::GetAttr { expr, .. } => is_path(expr),
        _ => false,
    }
}
