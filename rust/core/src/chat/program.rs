//! A template as a program whose steps cost what is charged for them.
//!
//! The engine charges for steps and for bytes that are made, but some of its steps go through a whole value for the price of
//! one: comparing two lists that are nested forty deep, each holding the last one twice, would not end; a list nested ten
//! thousand deep overflows the stack when it is let go of; a slice of every millionth element looks at all of them. So the
//! syntax tree is rebuilt before it is compiled: such a step is put behind a filter of [`super::bounds`] that pays for the
//! value first, or is replaced by one. Where a constant shows that the step is cheap, as in `message.role == 'user'`, it stays
//! as it is.
//!
//! The match over the tree has no wildcard: a construct that the engine learns later has to be thought about here. What is
//! done with a node depends on what was met above it, so the walk is one type in one file, long as it is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use minijinja::machinery::ast::{self, BinOpKind, CallArg, CompareOpKind, Expr, Spanned, Stmt};
use minijinja::machinery::{CodeGenerator, Instructions, Span, eval, make_string_output, parse};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Value};

use super::cheap::{is_constants, is_near, is_passing, is_short, is_text, is_view};
use super::steps::{compared, constant, contained, factors, filter, solid_if, variable, walked_unless};
use super::{bounds, strict, tags};

/// How deep expressions and blocks may nest, in steps of the tree: `a + b + c` is two deep. The engine's compiler goes down the
/// tree by recursion.
const DEEPEST_TREE: usize = 400;
/// Names longer than this are refused: the engine looks them up, copies and compares them at no charge.
const LONGEST_NAME: usize = 256;
/// What a captured block is called before it is put into a namespace; no template can write this name.
const CAPTURED: &str = "zephyr:captured";
/// Likewise what is assigned to attributes among other names.
const ASSIGNED: [&str; 4] = ["zephyr:0", "zephyr:1", "zephyr:2", "zephyr:3"];

/// A compiled template.
#[derive(Debug)]
pub(super) struct Program {
    instructions: Instructions<'static>,
    blocks: BTreeMap<&'static str, Instructions<'static>>,
}

impl Program {
    /// Compiles `source` with the syntax of `env`.
    pub(super) fn compile(name: &'static str, source: String, env: &Environment<'static>) -> Result<Program, Error> {
        let source = keep(source);
        let tree = parse(source, name, env.syntax().clone())?;
        let (macros, defaults) = tags::macros(source);
        let mut rebuild = Rebuild { macros, defaults, ..Rebuild::default() };
        let mut out = Vec::new();
        rebuild.stmt(&tree, &mut out);
        if let Some(error) = rebuild.refused {
            // Letting go of a tree is recursion, too; this template is refused, so it is loaded once.
            std::mem::forget((tree, out));
            return Err(error);
        }
        let mut generator = CodeGenerator::new(name, source);
        for stmt in &out {
            generator.compile_stmt(stmt);
        }
        let (instructions, blocks) = generator.finish();
        Ok(Program { instructions, blocks })
    }

    /// The source that was compiled.
    pub(super) fn source(&self) -> &str {
        self.instructions.source()
    }

    /// What the template prints where `context` holds its variables.
    pub(super) fn render(&self, env: &Environment<'static>, context: Value) -> Result<String, Error> {
        let mut text = String::new();
        let mut out = make_string_output(&mut text);
        eval(env, &self.instructions, context, &self.blocks, &mut out, AutoEscape::None)?;
        Ok(text)
    }
}

/// The same text, for as long as the process lives: the engine's instructions borrow from it. A process loads few templates,
/// and each text is kept once.
fn keep(source: String) -> &'static str {
    static KEPT: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut kept = KEPT.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(known) = kept.get(source.as_str()) {
        return known;
    }
    let known: &'static str = Box::leak(source.into_boxed_str());
    kept.insert(known);
    known
}

/// Copies a tree, with what the module says put in.
#[derive(Default)]
struct Rebuild {
    depth: usize,
    /// How many of the loops around this place are recursive.
    recursive: usize,
    /// Whether `loop` was named since this was last reset.
    names_loop: bool,
    /// What the default that is being rebuilt must not name: the parameters of its macro.
    parameters: Vec<&'static str>,
    /// The names of the template's macros, and of those that have defaults.
    macros: BTreeSet<&'static str>,
    defaults: BTreeSet<&'static str>,
    /// The first thing that no template may do.
    refused: Option<Error>,
}

impl Rebuild {
    fn refuse(&mut self, reason: &str, span: Span) {
        if self.refused.is_none() {
            let message = format!("{reason}, in line {}", span.start_line);
            self.refused = Some(Error::new(ErrorKind::SyntaxError, message));
        }
    }

    fn name(&mut self, name: &'static str, span: Span) -> &'static str {
        if name.len() > LONGEST_NAME {
            self.refuse(&format!("it has a name of more than {LONGEST_NAME} bytes"), span);
        }
        name
    }

    /// What is assigned to: a name, or several. Nothing is worked out there.
    fn target(&mut self, expr: &Expr<'static>) -> Expr<'static> {
        match expr {
            Expr::List(node) => {
                let items = node.items.iter().map(|item| self.target(item)).collect();
                Expr::List(Spanned::new(ast::List { items }, node.span()))
            }
            Expr::Var(node) => variable(self.name(node.id, node.span()), node.span()),
            // An attribute, which only `set` may have, and only by itself.
            other => variable(CAPTURED, other.span()),
        }
    }

    /// An expression whose value is kept, compared, or asked whether it is true. What can be gone through only once in Python,
    /// and is always true there, must not get that far.
    fn solid(&mut self, expr: &Expr<'static>) -> Expr<'static> {
        let made = self.expr(expr);
        solid_if(is_passing(expr), made)
    }

    /// Whether this part of the tree lies too deep; each `true` is for one [`Rebuild::leave`].
    fn enter(&mut self, span: Span) -> bool {
        self.depth += 1;
        if self.depth > DEEPEST_TREE {
            self.refuse(&format!("it nests more than {DEEPEST_TREE} deep"), span);
        }
        self.refused.is_none()
    }

    fn leave(&mut self) {
        self.depth -= 1;
    }

    fn body(&mut self, body: &[Stmt<'static>]) -> Vec<Stmt<'static>> {
        let mut out = Vec::with_capacity(body.len());
        for stmt in body {
            self.stmt(stmt, &mut out);
        }
        out
    }

    fn stmt(&mut self, stmt: &Stmt<'static>, out: &mut Vec<Stmt<'static>>) {
        if self.enter(Span::default()) {
            self.stmt_inside(stmt, out);
        }
        self.leave();
    }

    fn stmt_inside(&mut self, stmt: &Stmt<'static>, out: &mut Vec<Stmt<'static>>) {
        let made = match stmt {
            Stmt::Template(node) => {
                let children = self.body(&node.children);
                Stmt::Template(Spanned::new(ast::Template { children }, node.span()))
            }
            Stmt::EmitExpr(node) => {
                // Only text is printed, so that no list that is made here gets further.
                let expr = match &node.expr {
                    Expr::BinOp(op) if matches!(op.op, BinOpKind::Add) => self.binary(op),
                    expr => self.expr(expr),
                };
                Stmt::EmitExpr(Spanned::new(ast::EmitExpr { expr }, node.span()))
            }
            Stmt::EmitRaw(node) => Stmt::EmitRaw(Spanned::new(ast::EmitRaw { raw: node.raw }, node.span())),
            Stmt::ForLoop(node) => Stmt::ForLoop(self.for_loop(node)),
            Stmt::IfCond(node) => {
                let (expr, true_body) = (self.solid(&node.expr), self.body(&node.true_body));
                let false_body = self.body(&node.false_body);
                Stmt::IfCond(Spanned::new(ast::IfCond { expr, true_body, false_body }, node.span()))
            }
            Stmt::WithBlock(node) => {
                let pairs = node.assignments.iter();
                let assignments = pairs.map(|(to, expr)| (self.target(to), self.solid(expr))).collect();
                let body = self.body(&node.body);
                Stmt::WithBlock(Spanned::new(ast::WithBlock { assignments, body }, node.span()))
            }
            Stmt::Set(node) => {
                let expr = self.solid(&node.expr);
                if let Expr::GetAttr(attribute) = &node.target {
                    self.set_attribute(attribute, expr)
                } else if has_attribute(&node.target) {
                    return self.set_several(node, expr, out);
                } else {
                    Stmt::Set(Spanned::new(ast::Set { target: self.target(&node.target), expr }, node.span()))
                }
            }
            Stmt::SetBlock(node) => {
                let filter = node.filter.as_ref().map(|filter| self.expr(filter));
                let body = self.scope(&node.body);
                let Expr::GetAttr(attribute) = &node.target else {
                    let target = self.target(&node.target);
                    out.push(Stmt::SetBlock(Spanned::new(ast::SetBlock { target, filter, body }, node.span())));
                    return;
                };
                let block = ast::SetBlock { target: variable(CAPTURED, node.span()), filter, body };
                out.push(Stmt::SetBlock(Spanned::new(block, node.span())));
                self.set_attribute(attribute, variable(CAPTURED, node.span()))
            }
            Stmt::AutoEscape(node) => {
                let (enabled, body) = (self.expr(&node.enabled), self.body(&node.body));
                Stmt::AutoEscape(Spanned::new(ast::AutoEscape { enabled, body }, node.span()))
            }
            Stmt::FilterBlock(node) => {
                let made = filter(strict::TEXT, self.expr(&node.filter), Vec::new());
                let (filter, body) = (made, self.scope(&node.body));
                let filter_span = node.filter_span;
                Stmt::FilterBlock(Spanned::new(ast::FilterBlock { filter, filter_span, body }, node.span()))
            }
            Stmt::Block(node) => {
                let (name, body) = (self.name(node.name, node.span()), self.body(&node.body));
                Stmt::Block(Spanned::new(ast::Block { name, required: node.required, body }, node.span()))
            }
            // There is no other template, in transformers as here.
            Stmt::Import(node) => return self.refuse("it uses `import`", node.span()),
            Stmt::FromImport(node) => return self.refuse("it uses `import`", node.span()),
            Stmt::Extends(node) => return self.refuse("it uses `extends`", node.span()),
            Stmt::Include(node) => return self.refuse("it uses `include`", node.span()),
            Stmt::Macro(node) => Stmt::Macro(self.macro_of(node)),
            Stmt::CallBlock(node) => Stmt::CallBlock(Spanned::new(
                ast::CallBlock {
                    call: self.call(&node.call),
                    call_expr_span: node.call_expr_span,
                    macro_decl: self.macro_of(&node.macro_decl),
                },
                node.span(),
            )),
            Stmt::Continue(node) => Stmt::Continue(Spanned::new(ast::Continue, node.span())),
            Stmt::Break(node) => Stmt::Break(Spanned::new(ast::Break, node.span())),
            Stmt::Do(node) => Stmt::Do(Spanned::new(ast::Do { call: self.call(&node.call) }, node.span())),
        };
        out.push(made);
    }

    fn for_loop(&mut self, node: &Spanned<ast::ForLoop<'static>>) -> Spanned<ast::ForLoop<'static>> {
        let (target, iter) = (self.target(&node.target), self.expr(&node.iter));
        let outer = std::mem::take(&mut self.names_loop);
        self.recursive += usize::from(node.recursive);
        let filter_expr = node.filter_expr.as_ref().map(|filter| self.solid(filter));
        // In the filter and behind `else` it is the loop around this one.
        let outer = outer || self.names_loop;
        let body = self.body(&node.body);
        self.recursive -= usize::from(node.recursive);
        let counted = std::mem::replace(&mut self.names_loop, outer);
        let else_body = self.scope(&node.else_body);
        let iter = filter(if counted { bounds::COUNTED } else { bounds::TOUCH }, iter, Vec::new());
        Spanned::new(
            ast::ForLoop { target, iter, filter_expr, recursive: node.recursive, body, else_body },
            node.span(),
        )
    }

    fn macro_of(&mut self, node: &Spanned<ast::Macro<'static>>) -> Spanned<ast::Macro<'static>> {
        let args: Vec<Expr<'static>> = node.args.iter().map(|arg| self.target(arg)).collect();
        let names = args.iter().filter_map(|arg| if let Expr::Var(name) = arg { Some(name.id) } else { None });
        let outer = std::mem::replace(&mut self.parameters, names.collect());
        let defaults = node.defaults.iter().map(|default| self.solid(default)).collect();
        self.parameters = outer;
        let (name, body) = (self.name(node.name, node.span()), self.body(&node.body));
        Spanned::new(ast::Macro { name, args, defaults, body }, node.span())
    }

    /// A block whose variables end with it in jinja2, and not in the engine.
    fn scope(&mut self, body: &[Stmt<'static>]) -> Vec<Stmt<'static>> {
        let made = self.body(body);
        if body.iter().all(|stmt| matches!(stmt, Stmt::EmitExpr(_) | Stmt::EmitRaw(_))) {
            return made;
        }
        let block = ast::WithBlock { assignments: Vec::new(), body: made };
        vec![Stmt::WithBlock(Spanned::new(block, Span::default()))]
    }

    /// `{% set namespace.name, other = values %}`: all are taken apart before any is set.
    fn set_several(&mut self, node: &Spanned<ast::Set<'static>>, expr: Expr<'static>, out: &mut Vec<Stmt<'static>>) {
        let (Expr::List(list), span) = (&node.target, node.span()) else { return };
        if list.items.len() > ASSIGNED.len() || list.items.iter().any(|item| matches!(item, Expr::List(_))) {
            return self.refuse("it sets an attribute among many other names", span);
        }
        let items = ASSIGNED.iter().take(list.items.len()).map(|name| variable(name, span)).collect();
        let target = Expr::List(Spanned::new(ast::List { items }, span));
        out.push(Stmt::Set(Spanned::new(ast::Set { target, expr }, span)));
        for (item, name) in list.items.iter().zip(ASSIGNED) {
            let made = match item {
                Expr::GetAttr(attribute) => self.set_attribute(attribute, variable(name, span)),
                item => {
                    Stmt::Set(Spanned::new(ast::Set { target: self.target(item), expr: variable(name, span) }, span))
                }
            };
            out.push(made);
        }
    }

    /// `{% set namespace.name = value %}`, which prints nothing.
    fn set_attribute(&mut self, target: &Spanned<ast::GetAttr<'static>>, value: Expr<'static>) -> Stmt<'static> {
        let name = self.name(target.name, target.span());
        let name = Expr::Const(Spanned::new(ast::Const { value: Value::from(name) }, target.span()));
        let namespace = self.expr(&target.expr);
        let expr = filter(bounds::SET, namespace, vec![name, value]);
        Stmt::EmitExpr(Spanned::new(ast::EmitExpr { expr }, target.span()))
    }

    fn expr(&mut self, expr: &Expr<'static>) -> Expr<'static> {
        let inside = self.enter(expr.span());
        let out = if inside { self.expr_inside(expr) } else { variable(CAPTURED, expr.span()) };
        self.leave();
        out
    }

    /// `{key: value}`, whose keys must be such in Python.
    fn map(&mut self, node: &Spanned<ast::Map<'static>>) -> Expr<'static> {
        let key = |this: &mut Rebuild, key: &Expr<'static>| {
            let made = this.solid(key);
            if is_short(key) && !matches!(key, Expr::List(_) | Expr::Tuple(_)) {
                made
            } else {
                filter(strict::HASHED, made, Vec::new())
            }
        };
        let keys = node.keys.iter().map(|of| key(self, of)).collect();
        let values = node.values.iter().map(|value| self.solid(value)).collect();
        let made = Expr::Map(Spanned::new(ast::Map { keys, values }, node.span()));
        walked_unless(is_constants(&node.keys) && is_constants(&node.values), made)
    }

    fn expr_inside(&mut self, expr: &Expr<'static>) -> Expr<'static> {
        match expr {
            Expr::Var(node) => {
                self.names_loop |= node.id == "loop";
                if self.parameters.contains(&node.id) {
                    self.refuse("the default of a parameter names a parameter", node.span());
                }
                if self.macros.contains(node.id) {
                    self.refuse("it takes a macro for a value", node.span());
                }
                variable(self.name(node.id, node.span()), node.span())
            }
            Expr::Const(node) => constant(node),
            Expr::Slice(node) => {
                let part = |this: &mut Rebuild, part: &Option<Expr<'static>>| match part {
                    Some(part) => this.expr(part),
                    None => Expr::Const(Spanned::new(ast::Const { value: Value::from(()) }, node.span())),
                };
                let value = self.expr(&node.expr);
                let value = solid_if(is_view(&node.expr), value);
                let parts = vec![part(self, &node.start), part(self, &node.stop), part(self, &node.step)];
                filter(bounds::SLICE, value, parts)
            }
            Expr::UnaryOp(node) => {
                #[expect(clippy::needless_match, reason = "the engine's type cannot be copied")]
                let op = match node.op {
                    ast::UnaryOpKind::Not => ast::UnaryOpKind::Not,
                    ast::UnaryOpKind::Neg => ast::UnaryOpKind::Neg,
                };
                Expr::UnaryOp(Spanned::new(ast::UnaryOp { op, expr: self.solid(&node.expr) }, node.span()))
            }
            Expr::BinOp(node) => {
                let lazy = matches!(node.op, BinOpKind::Add | BinOpKind::Mul) && !is_text(expr);
                let made = self.binary(node);
                if lazy { filter(bounds::PLAIN, made, Vec::new()) } else { made }
            }
            Expr::Compare(node) => self.compare(node),
            Expr::IfExpr(node) => Expr::IfExpr(Spanned::new(
                ast::IfExpr {
                    test_expr: self.solid(&node.test_expr),
                    true_expr: self.expr(&node.true_expr),
                    false_expr: node.false_expr.as_ref().map(|expr| self.expr(expr)),
                },
                node.span(),
            )),
            Expr::Filter(node) => {
                let input = node.expr.as_ref().map(|expr| match (node.name, expr) {
                    // What a filter makes has no length in Python, and cannot be gone through from its end.
                    ("length" | "count" | "last", Expr::Filter(_)) | ("default" | "d", _) => self.solid(expr),
                    _ => self.expr(expr),
                });
                let (name, args) = (self.name(node.name, node.span()), self.args(&node.args, true));
                Expr::Filter(Spanned::new(ast::Filter { name, expr: input, args }, node.span()))
            }
            Expr::Test(node) => {
                let expr = match node.name {
                    "defined" | "undefined" if matches!(&node.expr, Expr::Var(name) if self.macros.contains(name.id)) => {
                        as_it_is(&node.expr)
                    }
                    "defined" | "undefined" | "none" | "iterable" | "string" | "mapping" | "number" => {
                        self.expr(&node.expr)
                    }
                    _ => self.solid(&node.expr),
                };
                let (name, args) = (self.name(node.name, node.span()), self.args(&node.args, true));
                Expr::Test(Spanned::new(ast::Test { name, expr, args }, node.span()))
            }
            Expr::GetAttr(node) => {
                let name = self.name(node.name, node.span());
                Expr::GetAttr(Spanned::new(ast::GetAttr { expr: self.expr(&node.expr), name }, node.span()))
            }
            Expr::GetItem(node) => {
                let (mut expr, mut subscript_expr) = (self.expr(&node.expr), self.expr(&node.subscript_expr));
                expr = solid_if(is_view(&node.expr), expr);
                // A key is hashed, and an element of a text is counted off.
                if !is_near(&node.subscript_expr) {
                    expr = filter(bounds::TOUCH, expr, Vec::new());
                    subscript_expr = filter(bounds::KEY, subscript_expr, Vec::new());
                }
                Expr::GetItem(Spanned::new(ast::GetItem { expr, subscript_expr }, node.span()))
            }
            Expr::Call(node) => Expr::Call(self.call(node)),
            Expr::List(node) => {
                let items = node.items.iter().map(|item| self.solid(item)).collect();
                let made = Expr::List(Spanned::new(ast::List { items }, node.span()));
                walked_unless(is_constants(&node.items), made)
            }
            Expr::Tuple(node) => {
                let items = node.items.iter().map(|item| self.solid(item)).collect();
                let made = Expr::Tuple(Spanned::new(ast::Tuple { items }, node.span()));
                walked_unless(is_constants(&node.items), made)
            }
            Expr::Map(node) => self.map(node),
        }
    }

    /// An operator, without regard to what becomes of a list that it makes.
    fn binary(&mut self, node: &Spanned<ast::BinOp<'static>>) -> Expr<'static> {
        let mut left = self.solid(&node.left);
        // What `and` and `or` give is looked at where it gets to.
        let mut right = match node.op {
            BinOpKind::In | BinOpKind::ScAnd | BinOpKind::ScOr => self.expr(&node.right),
            _ => self.solid(&node.right),
        };
        match node.op {
            BinOpKind::Concat => return filter(bounds::CONCAT, left, vec![right]),
            BinOpKind::In => {
                (left, right) = contained(&node.left, left, &node.right, right);
                return filter(strict::IN, left, vec![right]);
            }
            BinOpKind::Eq | BinOpKind::Ne => right = compared(&node.left, &node.right, right),
            BinOpKind::Lt => return filter(strict::LESS, left, vec![compared(&node.left, &node.right, right)]),
            BinOpKind::Lte => {
                return filter(strict::LESS_OR_EQUAL, left, vec![compared(&node.left, &node.right, right)]);
            }
            BinOpKind::Gt => return filter(strict::MORE, left, vec![compared(&node.left, &node.right, right)]),
            BinOpKind::Gte => {
                return filter(strict::MORE_OR_EQUAL, left, vec![compared(&node.left, &node.right, right)]);
            }
            BinOpKind::Mul => (left, right) = factors(&node.left, left, &node.right, right),
            BinOpKind::ScAnd
            | BinOpKind::ScOr
            | BinOpKind::Add
            | BinOpKind::Sub
            | BinOpKind::Div
            | BinOpKind::FloorDiv
            | BinOpKind::Rem
            | BinOpKind::Pow => {}
        }
        Expr::BinOp(Spanned::new(ast::BinOp { op: node.op, left, right }, node.span()))
    }

    fn compare(&mut self, node: &Spanned<ast::Compare<'static>>) -> Expr<'static> {
        let mut expr = self.solid(&node.expr);
        let single = node.ops.len() == 1;
        let side = |op: &ast::CompareOp<'static>| match op.op {
            CompareOpKind::In | CompareOpKind::NotIn if single => self.expr(&op.expr),
            _ => self.solid(&op.expr),
        };
        let mut rights: Vec<Expr<'static>> = node.ops.iter().map(side).collect();
        if let ([op], Some(right)) = (node.ops.as_slice(), rights.pop_if(|_| node.ops.len() == 1)) {
            let (left, right) = match op.op {
                CompareOpKind::In | CompareOpKind::NotIn => contained(&node.expr, expr, &op.expr, right),
                CompareOpKind::Eq
                | CompareOpKind::Ne
                | CompareOpKind::Lt
                | CompareOpKind::Lte
                | CompareOpKind::Gt
                | CompareOpKind::Gte => (expr, compared(&node.expr, &op.expr, right)),
            };
            expr = left;
            rights.push(right);
        } else {
            // In `a < b < c` each is on one side or the other.
            let equal = node.ops.iter().all(|op| matches!(op.op, CompareOpKind::Eq | CompareOpKind::Ne));
            let name = if equal { bounds::WALK } else { strict::NUMBER };
            expr = filter(name, expr, Vec::new());
            rights = rights.into_iter().map(|right| filter(name, right, Vec::new())).collect();
        }
        let ops = node.ops.iter().zip(rights).map(|(op, expr)| ast::CompareOp { op: op.op, expr }).collect();
        Expr::Compare(Spanned::new(ast::Compare { expr, ops }, node.span()))
    }

    fn call(&mut self, node: &Spanned<ast::Call<'static>>) -> Spanned<ast::Call<'static>> {
        let passes = match &node.expr {
            Expr::GetAttr(attribute) => attribute.name == "join",
            Expr::Var(function) => function.id == "loop",
            _ => false,
        };
        let mut args = self.args(&node.args, !passes);
        let method = match &node.expr {
            Expr::GetAttr(attribute) => Some(attribute.name),
            _ => None,
        };
        // A loop keeps what `changed` is given, and `cycle` divides by the number of its arguments.
        let plain = !args.is_empty() && args.iter().all(|arg| matches!(arg, CallArg::Pos(_)));
        if !plain && matches!(method, Some("changed" | "cycle")) {
            self.refuse("it calls `loop.changed` or `loop.cycle` without plain arguments", node.span());
        }
        let around = match method {
            Some("changed") => Some(bounds::STILL),
            // `loop(…)`, by whatever name, begins to go through its argument.
            None if self.recursive > 0 => Some(bounds::COUNTED),
            _ => None,
        };
        if let Some(name) = around {
            let wrap = |arg| match arg {
                CallArg::Pos(expr) => CallArg::Pos(filter(name, expr, Vec::new())),
                other => other,
            };
            args = args.into_iter().map(wrap).collect();
        }
        let expr = match &node.expr {
            Expr::Var(function) if self.macros.contains(function.id) => as_it_is(&node.expr),
            expr => self.expr(expr),
        };
        if matches!(&node.expr, Expr::Var(function) if self.defaults.contains(function.id)) {
            let given = |arg| match arg {
                CallArg::Pos(expr) => CallArg::Pos(filter(strict::GIVEN, expr, Vec::new())),
                CallArg::Kwarg(name, expr) => CallArg::Kwarg(name, filter(strict::GIVEN, expr, Vec::new())),
                other => other,
            };
            args = args.into_iter().map(given).collect();
        }
        Spanned::new(ast::Call { expr, args }, node.span())
    }

    fn args(&mut self, args: &[CallArg<'static>], kept: bool) -> Vec<CallArg<'static>> {
        let arg = |arg: &CallArg<'static>| match arg {
            CallArg::Pos(expr) => CallArg::Pos(if kept { self.solid(expr) } else { self.expr(expr) }),
            CallArg::Kwarg(name, expr) => CallArg::Kwarg(self.name(name, expr.span()), self.solid(expr)),
            CallArg::PosSplat(expr) => CallArg::PosSplat(filter(bounds::TOUCH, self.expr(expr), Vec::new())),
            CallArg::KwargSplat(expr) => CallArg::KwargSplat(filter(bounds::WALK, self.expr(expr), Vec::new())),
        };
        args.iter().map(arg).collect()
    }
}

/// Whether an attribute stands among the names that are assigned to.
fn has_attribute(target: &Expr<'_>) -> bool {
    match target {
        Expr::List(node) => node.items.iter().any(has_attribute),
        Expr::Var(_) => false,
        _ => true,
    }
}

/// A name as it is.
fn as_it_is(expr: &Expr<'static>) -> Expr<'static> {
    match expr {
        Expr::Var(node) => variable(node.id, node.span()),
        other => variable(CAPTURED, other.span()),
    }
}
