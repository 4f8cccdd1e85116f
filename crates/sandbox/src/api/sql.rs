//! A subset of SQL.
//!
//! The parser accepts much more than the subset. The rest is rejected, so that no clause is ignored.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "whatever else the parser accepts is rejected"
)]

use std::cmp::Ordering;
use std::fmt::Display;

use csv::StringRecord;
use sqlparser::ast::{
    BinaryOperator, Expr, Function, Ident, InTarget, LimitClause, OrderByExpr, OrderByKind,
    OrderByOptions, OrderBySort, Query, Select, SelectItem, SetExpr, Statement, UnaryOperator,
    Value, WildcardAdditionalOptions,
};
use sqlparser::dialect::MySqlDialect;
use sqlparser::keywords::Keyword;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Token, Tokenizer};

use super::table::Column;

/// The most tokens of a query. It bounds the depth of the tree of `a AND b AND …`.
const MAX_TOKENS: usize = 1000;

/// The deepest nesting of a query. In a debug build, the parser needs several MiB of stack for it.
const MAX_DEPTH: usize = 16;

const SUBSET: &str = "the sandbox supports SELECT columns or count(*) FROM table, WHERE with comparisons of a column \
                      with a value, IN, IS NULL, AND, OR and NOT, ORDER BY columns, LIMIT and OFFSET";

/// The part of a query that each query has.
const TEMPLATE: &str = "SELECT *, count(*) FROM table";

/// What a query asks for; columns are their positions.
pub(super) struct Plan {
    pub(super) output: Output,
    condition: Option<Condition>,
    pub(super) order: Vec<Order>,
    pub(super) limit: Option<usize>,
    pub(super) offset: usize,
}

pub(super) enum Output {
    /// Columns with their names in the result.
    Columns(Vec<(String, usize)>),
    /// The number of rows, with its name in the result.
    Count(String),
}

pub(super) struct Order {
    column: usize,
    descending: bool,
}

enum Condition {
    And(Box<[Condition; 2]>),
    Or(Box<[Condition; 2]>),
    Not(Box<Condition>),
    Compare(usize, fn(Ordering) -> bool, String),
    In(usize, Vec<String>),
    IsNull(usize),
}

type Result<T> = std::result::Result<T, String>;

impl Plan {
    pub(super) fn matches(&self, columns: &[Column], record: &StringRecord) -> bool {
        let condition = self.condition.as_ref();
        condition.is_none_or(|condition| condition.holds(columns, record) == Some(true))
    }

    pub(super) fn compare(
        &self,
        columns: &[Column],
        a: &StringRecord,
        b: &StringRecord,
    ) -> Ordering {
        let orders = self.order.iter().map(|order| {
            let (a, b) = (text(a, order.column), text(b, order.column));
            let ordering = match (a.is_empty(), b.is_empty()) {
                // As in MySQL, null is less than any value.
                (true, _) | (_, true) => b.is_empty().cmp(&a.is_empty()),
                _ => compare(columns, order.column, a, b),
            };
            if order.descending {
                ordering.reverse()
            } else {
                ordering
            }
        });
        orders.fold(Ordering::Equal, Ordering::then)
    }
}

impl Condition {
    /// Returns whether a row meets the condition; `None` is SQL's unknown.
    fn holds(&self, columns: &[Column], record: &StringRecord) -> Option<bool> {
        let holds = |condition: &Self| condition.holds(columns, record);
        match self {
            Self::And(both) => match both.each_ref().map(holds) {
                [Some(false), _] | [_, Some(false)] => Some(false),
                [a, b] => Some(a? && b?),
            },
            Self::Or(both) => match both.each_ref().map(holds) {
                [Some(true), _] | [_, Some(true)] => Some(true),
                [a, b] => Some(a? || b?),
            },
            Self::Not(condition) => holds(condition).map(|holds| !holds),
            Self::IsNull(column) => Some(text(record, *column).is_empty()),
            Self::Compare(column, accepts, value) => {
                let found = Some(text(record, *column)).filter(|text| !text.is_empty())?;
                Some(accepts(compare(columns, *column, found, value)))
            }
            Self::In(column, values) => {
                let found = Some(text(record, *column)).filter(|text| !text.is_empty())?;
                let mut values = values.iter();
                Some(values.any(|value| compare(columns, *column, found, value).is_eq()))
            }
        }
    }
}

fn text(record: &StringRecord, column: usize) -> &str {
    record.get(column).unwrap_or_default()
}

/// Compares two values of a column, neither of which is null.
fn compare(columns: &[Column], column: usize, a: &str, b: &str) -> Ordering {
    if columns
        .get(column)
        .is_none_or(|column| !column.kind.is_numeric())
    {
        return a.cmp(b);
    }
    match (a.parse::<i64>(), b.parse::<i64>()) {
        (Ok(a), Ok(b)) => a.cmp(&b),
        _ => match (a.parse::<f64>(), b.parse::<f64>()) {
            (Ok(a), Ok(b)) => a.total_cmp(&b),
            // Of an earlier schema.
            _ => a.cmp(b),
        },
    }
}

/// Returns the plan of a query, or why there is none.
pub(super) fn plan(sql: &str, columns: &[Column]) -> Result<Plan> {
    let template = select(parse(TEMPLATE)?)?;
    let mut query = parse(sql)?;
    let order = query.order_by.take();
    let limit = query.limit_clause.take();
    let Select {
        projection,
        selection,
        ..
    } = select(query.clone())?;
    check_rest(query, &template)?;
    let [_, SelectItem::UnnamedExpr(Expr::Function(count))] = &template.projection[..] else {
        return Err(unsupported("this query"));
    };
    let output = output(projection, count, columns)?;
    let order = match order.map(|order| (order.kind, order.interpolate)) {
        None => Vec::new(),
        Some((OrderByKind::Expressions(items), None)) => {
            let orders = items.into_iter().map(|item| self::order(item, columns));
            orders.collect::<Result<_>>()?
        }
        Some(_) => return Err(unsupported("this ORDER BY")),
    };
    let (limit, offset) = match limit {
        None => (None, None),
        Some(LimitClause::LimitOffset {
            limit,
            offset,
            limit_by,
        }) if limit_by.is_empty() => (limit, offset.map(|offset| offset.value)),
        Some(LimitClause::OffsetCommaLimit { offset, limit }) => (Some(limit), Some(offset)),
        Some(other) => return Err(unsupported(&other)),
    };
    Ok(Plan {
        output,
        condition: selection
            .map(|expr| condition(&expr, columns))
            .transpose()?,
        order,
        limit: limit.map(|expr| number(&expr)).transpose()?,
        offset: offset.map_or(Ok(0), |expr| number(&expr))?,
    })
}

fn unsupported(what: &(impl Display + ?Sized)) -> String {
    format!("unsupported: {what}; {SUBSET}")
}

fn invalid(error: impl Display) -> String {
    format!("the query is invalid: {error}")
}

fn parse(sql: &str) -> Result<Query> {
    let dialect = MySqlDialect {};
    let mut tokenizer = Tokenizer::new(&dialect, sql);
    let mut tokens = tokenizer.tokenize_with_location().map_err(invalid)?;
    if tokens.len() > MAX_TOKENS {
        return Err(format!("the query has more than {MAX_TOKENS} tokens"));
    }
    for token in &mut tokens {
        // The name that Domo gives to each dataset is a reserved word.
        if let Token::Word(word) = &mut token.token
            && word.value.eq_ignore_ascii_case("table")
        {
            "table".clone_into(&mut word.value);
            word.keyword = Keyword::NoKeyword;
            word.quote_style = None;
        }
    }
    let parser = Parser::new(&dialect).with_recursion_limit(MAX_DEPTH);
    let statements = parser.with_tokens_with_locations(tokens).parse_statements();
    match <[Statement; 1]>::try_from(statements.map_err(invalid)?) {
        Ok([Statement::Query(query)]) => Ok(*query),
        Ok([other]) => Err(unsupported(&other)),
        Err(statements) => Err(unsupported(&format!("{} statements", statements.len()))),
    }
}

fn select(query: Query) -> Result<Select> {
    match *query.body {
        SetExpr::Select(select) => Ok(*select),
        other => Err(unsupported(&other)),
    }
}

/// Checks that a query has nothing besides the clauses of the subset.
fn check_rest(mut query: Query, template: &Select) -> Result<()> {
    let text = query.to_string();
    if let SetExpr::Select(select) = query.body.as_mut() {
        select.projection.clone_from(&template.projection);
        select.selection = None;
    }
    let mut expected = parse(TEMPLATE)?;
    *expected.body = SetExpr::Select(Box::new(template.clone()));
    if query == expected {
        Ok(())
    } else {
        Err(unsupported(&text))
    }
}

fn output(items: Vec<SelectItem>, count: &Function, columns: &[Column]) -> Result<Output> {
    let mut selected = Vec::new();
    let only = items.len() == 1;
    for item in items {
        let (expr, alias) = match item {
            SelectItem::Wildcard(options) if options == WildcardAdditionalOptions::default() => {
                let all = columns.iter().enumerate();
                selected.extend(all.map(|(index, column)| (column.name.clone(), index)));
                continue;
            }
            SelectItem::UnnamedExpr(expr) => (expr, None),
            SelectItem::ExprWithAlias { expr, alias } => (expr, Some(alias.value)),
            other => return Err(unsupported(&other)),
        };
        if only && is_count(&expr, count) {
            return Ok(Output::Count(alias.unwrap_or_else(|| expr.to_string())));
        }
        let (index, column) = column(&expr, columns)?;
        selected.push((alias.unwrap_or_else(|| column.name.clone()), index));
    }
    Ok(Output::Columns(selected))
}

fn is_count(expr: &Expr, count: &Function) -> bool {
    let Expr::Function(function) = expr else {
        return false;
    };
    let is_name = function.name.to_string().eq_ignore_ascii_case("count");
    let mut function = function.clone();
    function.name.clone_from(&count.name);
    is_name && function == *count
}

/// Returns the column that an expression names.
fn column<'a>(expr: &Expr, columns: &'a [Column]) -> Result<(usize, &'a Column)> {
    let name = match expr {
        Expr::Identifier(Ident { value, .. }) => value,
        Expr::CompoundIdentifier(parts) => match &parts[..] {
            [table, Ident { value, .. }] if table.value == "table" => value,
            _ => return Err(unsupported(expr)),
        },
        other => return Err(unsupported(other)),
    };
    let mut found = columns.iter().enumerate();
    let exact = found.find(|(_, column)| column.name == *name);
    let mut others = columns.iter().enumerate();
    exact
        .or_else(|| others.find(|(_, column)| column.name.eq_ignore_ascii_case(name)))
        .ok_or_else(|| format!("the dataset has no column {name:?}"))
}

fn order(item: OrderByExpr, columns: &[Column]) -> Result<Order> {
    let text = item.to_string();
    let descending = match (item.options, item.with_fill) {
        (
            OrderByOptions {
                sort: None | Some(OrderBySort::Asc),
                nulls_first: None,
            },
            None,
        ) => false,
        (
            OrderByOptions {
                sort: Some(OrderBySort::Desc),
                nulls_first: None,
            },
            None,
        ) => true,
        _ => return Err(unsupported(&text)),
    };
    let (column, _) = column(&item.expr, columns)?;
    Ok(Order { column, descending })
}

fn number(expr: &Expr) -> Result<usize> {
    let text = expr.to_string();
    text.parse()
        .map_err(|_| format!("{text} in LIMIT or OFFSET is not a number"))
}

fn condition(expr: &Expr, columns: &[Column]) -> Result<Condition> {
    match expr {
        Expr::Nested(expr) => condition(expr, columns),
        Expr::UnaryOp {
            op: UnaryOperator::Not,
            expr,
        } => Ok(negated(condition(expr, columns)?)),
        Expr::IsNull(expr) => Ok(Condition::IsNull(column(expr, columns)?.0)),
        Expr::IsNotNull(expr) => Ok(negated(Condition::IsNull(column(expr, columns)?.0))),
        Expr::In {
            expr,
            target: InTarget::List(list),
            negated: not,
            global: false,
        } => {
            let (index, column) = column(expr, columns)?;
            let values = list.iter().map(|value| literal(value, column));
            let found = Condition::In(index, values.collect::<Result<_>>()?);
            Ok(if *not { negated(found) } else { found })
        }
        Expr::BinaryOp {
            left,
            op: BinaryOperator::And,
            right,
        } => Ok(Condition::And(Box::new([
            condition(left, columns)?,
            condition(right, columns)?,
        ]))),
        Expr::BinaryOp {
            left,
            op: BinaryOperator::Or,
            right,
        } => Ok(Condition::Or(Box::new([
            condition(left, columns)?,
            condition(right, columns)?,
        ]))),
        Expr::BinaryOp { left, op, right } => {
            let accepts: fn(Ordering) -> bool = match op {
                BinaryOperator::Eq => Ordering::is_eq,
                BinaryOperator::NotEq => Ordering::is_ne,
                BinaryOperator::Lt => Ordering::is_lt,
                BinaryOperator::LtEq => Ordering::is_le,
                BinaryOperator::Gt => Ordering::is_gt,
                BinaryOperator::GtEq => Ordering::is_ge,
                other => return Err(unsupported(other)),
            };
            let (index, column) = column(left, columns)?;
            let value = literal(right, column)?;
            Ok(Condition::Compare(index, accepts, value))
        }
        other => Err(unsupported(other)),
    }
}

fn negated(condition: Condition) -> Condition {
    Condition::Not(Box::new(condition))
}

/// Returns the text of a value that is compared with a column.
fn literal(expr: &Expr, column: &Column) -> Result<String> {
    let is_number = match expr {
        Expr::Value(value) => matches!(value.value, Value::Number(..)),
        Expr::UnaryOp {
            op: UnaryOperator::Minus,
            expr,
        } => {
            matches!(&**expr, Expr::Value(value) if matches!(value.value, Value::Number(..)))
        }
        _ => false,
    };
    let text = match expr {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text)
            | Value::DoubleQuotedString(text)
            | Value::Number(text, false) => text.clone(),
            _ => return Err(unsupported(expr)),
        },
        _ if is_number => expr.to_string(),
        _ => return Err(unsupported(expr)),
    };
    let name = &column.name;
    if column.kind.is_numeric() && text.parse::<f64>().is_err() {
        return Err(format!(
            "column {name:?} is numeric, and {text:?} is not a number"
        ));
    }
    if is_number && !column.kind.is_numeric() {
        return Err(format!(
            "column {name:?} is not numeric; put {text} in quotes"
        ));
    }
    Ok(text)
}
