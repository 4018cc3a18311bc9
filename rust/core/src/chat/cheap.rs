//! Expressions of a template that show by themselves that a step is cheap, so that nothing has to be paid for first.
//!
//! Most comparisons and subscripts of chat templates are of this kind: `message['role'] == 'user'`.

use minijinja::machinery::ast::{BinOpKind, Expr};
use minijinja::value::ValueKind;

/// Constants up to this many bytes or items are cheap to compare with.
const SHORT: usize = 64;

/// Whether this is a constant that is compared with at once: a number, a short text, or a few of them.
pub(super) fn is_short(expr: &Expr<'_>) -> bool {
    match expr {
        Expr::Const(node) => match node.value.kind() {
            ValueKind::String => node.value.as_str().is_some_and(|text| text.len() <= SHORT),
            ValueKind::Undefined | ValueKind::None | ValueKind::Bool | ValueKind::Number => true,
            _ => false,
        },
        Expr::List(node) => node.items.len() <= SHORT && node.items.iter().all(is_short_scalar),
        Expr::Tuple(node) => node.items.len() <= SHORT && node.items.iter().all(is_short_scalar),
        _ => false,
    }
}

fn is_short_scalar(expr: &Expr<'_>) -> bool {
    matches!(expr, Expr::Const(_)) && is_short(expr)
}

/// Whether this subscript is found at once: a short name, or one of the first elements.
pub(super) fn is_near(expr: &Expr<'_>) -> bool {
    let Expr::Const(node) = expr else { return false };
    match node.value.as_str() {
        Some(name) => name.len() <= SHORT,
        None => node.value.is_integer() && node.value.as_usize().is_some_and(|index| index <= SHORT),
    }
}

/// Whether `+` of these is a text or an error, never a list.
pub(super) fn is_text(expr: &Expr<'_>) -> bool {
    match expr {
        Expr::Const(node) => node.value.kind() == ValueKind::String,
        Expr::BinOp(node) => match node.op {
            BinOpKind::Add => is_text(&node.left) || is_text(&node.right),
            BinOpKind::Concat => true,
            _ => false,
        },
        _ => false,
    }
}

/// Filters that give what Python can go through only once.
const PASSING: [&str; 8] = ["items", "map", "reject", "rejectattr", "reverse", "select", "selectattr", "unique"];

/// Whether this can be such a thing, the keys of a dictionary or the like: something to go through that is no list. No variable
/// is one, since nothing that this holds for is kept.
pub(super) fn is_passing(expr: &Expr<'_>) -> bool {
    match expr {
        Expr::IfExpr(node) => is_passing(&node.true_expr) || node.false_expr.as_ref().is_some_and(is_passing),
        Expr::BinOp(node) => matches!(node.op, BinOpKind::ScAnd | BinOpKind::ScOr) && is_passing(&node.right),
        // A function under another name may be `range`.
        Expr::Call(node) => match &node.expr {
            Expr::Var(function) => !matches!(function.id, "dict" | "namespace" | "loop" | "caller"),
            Expr::GetAttr(method) => matches!(method.name, "items" | "keys" | "values"),
            _ => true,
        },
        _ => is_view(expr),
    }
}

/// Whether this can be such a thing that has no elements by number in Python either: a `range` has.
pub(super) fn is_view(expr: &Expr<'_>) -> bool {
    match expr {
        Expr::Filter(node) => PASSING.contains(&node.name),
        Expr::Call(node) => !matches!(node.expr, Expr::Var(_)) && is_passing(expr),
        Expr::IfExpr(_) | Expr::BinOp(_) => is_passing(expr),
        _ => false,
    }
}

/// Whether the engine makes this list when it compiles, out of the source.
pub(super) fn is_constants(items: &[Expr<'_>]) -> bool {
    items.iter().all(|item| matches!(item, Expr::Const(_)))
}

#[cfg(test)]
mod tests {
    use minijinja::machinery::parse_expr;

    use super::*;

    fn holds(of: fn(&Expr<'_>) -> bool, source: &str) -> bool {
        of(&parse_expr(source).unwrap())
    }

    #[test]
    fn only_short_constants_are_cheap() {
        let long = format!("'{}'", "a".repeat(SHORT + 1));
        for source in ["'user'", "1", "1.5", "none", "true", "['a', 1]", "('a', none)"] {
            assert!(holds(is_short, source), "{source}");
        }
        let many = format!("[{}]", "1, ".repeat(SHORT + 1));
        for source in ["x", "x.y", "[x]", "[['a']]", "{'a': 1}", "'a' + x", &long, &many] {
            assert!(!holds(is_short, source), "{source}");
        }
        for source in ["'role'", "0", "64"] {
            assert!(holds(is_near, source), "{source}");
        }
        for source in ["-1", "65", "x", "'a' ~ 'b'", &long] {
            assert!(!holds(is_near, source), "{source}");
        }
    }

    #[test]
    fn sums_with_a_text_are_texts() {
        for source in ["'a' + x", "x + 'a' + y", "x + (y ~ z)"] {
            assert!(holds(is_text, source), "{source}");
        }
        for source in ["x + y", "x + 1", "x + ['a']", "x * 'a'", "x + y | upper"] {
            assert!(!holds(is_text, source), "{source}");
        }
    }
}
