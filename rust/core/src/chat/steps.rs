//! Expressions that [`super::program`] puts into a template: filters that pay or refuse, around what is rebuilt.

use minijinja::machinery::Span;
use minijinja::machinery::ast::{self, CallArg, Expr, Spanned};

use super::cheap::is_short;
use super::{bounds, strict};

pub(super) fn variable(id: &'static str, span: Span) -> Expr<'static> {
    Expr::Var(Spanned::new(ast::Var { id }, span))
}

/// Both sides of a product: a text or a list times a number with a fraction is none.
pub(super) fn factors(
    left: &Expr<'static>,
    left_rebuilt: Expr<'static>,
    right: &Expr<'static>,
    right_rebuilt: Expr<'static>,
) -> (Expr<'static>, Expr<'static>) {
    let number = |expr: &Expr<'static>| match expr {
        Expr::Const(node) if node.value.is_number() => Some(node.value.is_integer()),
        _ => None,
    };
    match (number(left), number(right)) {
        (Some(false), _) | (_, Some(false)) => {
            (filter(strict::NUMBER, left_rebuilt, Vec::new()), filter(strict::NUMBER, right_rebuilt, Vec::new()))
        }
        (Some(true), _) | (_, Some(true)) => (left_rebuilt, right_rebuilt),
        _ => (filter(strict::FACTOR, left_rebuilt, Vec::new()), filter(strict::FACTOR, right_rebuilt, Vec::new())),
    }
}

pub(super) fn constant(node: &Spanned<ast::Const>) -> Expr<'static> {
    Expr::Const(Spanned::new(ast::Const { value: node.value.clone() }, node.span()))
}

/// `input | name(args)`.
pub(super) fn filter(name: &'static str, input: Expr<'static>, args: Vec<Expr<'static>>) -> Expr<'static> {
    let span = input.span();
    let args = args.into_iter().map(CallArg::Pos).collect();
    Expr::Filter(Spanned::new(ast::Filter { name, expr: Some(input), args }, span))
}

pub(super) fn solid_if(passing: bool, made: Expr<'static>) -> Expr<'static> {
    if passing { filter(bounds::SOLID, made, Vec::new()) } else { made }
}

pub(super) fn walked_unless(cheap: bool, made: Expr<'static>) -> Expr<'static> {
    if cheap { made } else { filter(bounds::WALK, made, Vec::new()) }
}

/// The right side of a comparison. It takes no longer than going through the smaller side.
pub(super) fn compared(left: &Expr<'static>, right: &Expr<'static>, rebuilt: Expr<'static>) -> Expr<'static> {
    walked_unless(is_short(left) || is_short(right), rebuilt)
}

/// Both sides of `in`: what is looked for is compared with every item, hashed, or prepared for a search.
pub(super) fn contained(
    left: &Expr<'static>,
    left_rebuilt: Expr<'static>,
    right: &Expr<'static>,
    right_rebuilt: Expr<'static>,
) -> (Expr<'static>, Expr<'static>) {
    // A text is searched for the charge of its bytes, and the items of a list are charged one by one.
    let cheap_right = is_short(left) || is_short(right);
    (walked_unless(is_short(left), left_rebuilt), walked_unless(cheap_right, right_rebuilt))
}
