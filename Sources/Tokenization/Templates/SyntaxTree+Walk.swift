extension Expression.Arguments {
  /// All of the values.
  var parts: [Expression] { positional + keyword.map(\.value) + [list, dictionary].compactMap { $0 } }
}

extension Expression {
  /// The expressions that this one is made of.
  var parts: [Expression] {
    switch node {
    case .constant, .name: []
    case .list(let items), .tuple(let items), .concatenation(let items): items
    case .dictionary(let items): items.flatMap { [$0.key, $0.value] }
    case .unary(_, let value), .attribute(let value, _): [value]
    case .binary(_, let a, let b), .and(let a, let b), .or(let a, let b), .item(let a, let b): [a, b]
    case .comparison(let first, let rest): [first] + rest.map(\.1)
    case .conditional(let test, let then, let otherwise): [test, then] + [otherwise].compactMap { $0 }
    case .slice(let value, let start, let stop, let step): [value] + [start, stop, step].compactMap { $0 }
    case .call(let value, let arguments), .filter(let value, _, let arguments), .test(let value, _, let arguments):
      [value] + arguments.parts
    }
  }

  /// Whether a variable of that name is asked for.
  func uses(_ name: String) -> Bool {
    if case .name(let other) = node { return other == name }
    return parts.contains { $0.uses(name) }
  }
}

extension Statement {
  /// What a statement is made of.
  struct Parts {
    /// Evaluated where the statement stands.
    var outer: [Expression] = []
    /// Evaluated in a place of its own.
    var inner: [Expression] = []
    var filters: [FilterCall] = []
    var bodies: [[Statement]] = []
  }

  var parts: Parts {
    switch node {
    case .text, .breakLoop, .continueLoop, .otherTemplate: Parts()
    case .output(let value), .assign(_, let value): Parts(outer: [value])
    case .loop(let loop):
      Parts(outer: [loop.sequence], inner: [loop.test].compactMap { $0 }, bodies: [loop.body, loop.otherwise])
    case .condition(let branches, let otherwise):
      Parts(outer: branches.map(\.test), bodies: branches.map(\.body) + [otherwise])
    case .assignBlock(_, let filters, let body), .filterBlock(let filters, let body):
      Parts(filters: filters, bodies: [body])
    case .macro(let macro): Parts(inner: macro.parameters.compactMap(\.standard), bodies: [macro.body])
    case .callBlock(let macro, let call):
      Parts(outer: [call], inner: macro.parameters.compactMap(\.standard), bodies: [macro.body])
    case .with(let items, let body): Parts(outer: items.map(\.value), bodies: [body])
    case .autoescape(let value, let body): Parts(outer: [value], bodies: [body])
    case .generation(let body), .block(let body, _): Parts(bodies: [body])
    }
  }

  /// Whether a variable of that name is asked for.
  func uses(_ name: String) -> Bool {
    let parts = parts
    return (parts.outer + parts.inner).contains { $0.uses(name) }
      || parts.filters.contains { $0.arguments.parts.contains { $0.uses(name) } }
      || parts.bodies.contains { $0.contains { $0.uses(name) } }
  }
}

/// Finds filters and tests that do not exist.
///
/// As in Jinja, one that stands in a branch that may never be taken is an error only when it is reached: templates ask
/// for filters of other programs there.
enum NameCheck {
  static func check(_ body: [Statement], isOptional: Bool = false) throws(TemplateError) {
    for statement in body {
      let parts = statement.parts
      var isBranch = false
      if case .condition = statement.node { isBranch = true }
      for expression in parts.outer { try check(expression, isOptional: isOptional || isBranch) }
      for expression in parts.inner { try check(expression, isOptional: false) }
      for filter in parts.filters {
        try check(filter: filter.name, at: filter.location)
        for expression in filter.arguments.parts { try check(expression, isOptional: false) }
      }
      for body in parts.bodies { try check(body, isOptional: isBranch) }
    }
  }

  private static func check(_ expression: Expression, isOptional: Bool) throws(TemplateError) {
    var isOptional = isOptional
    switch expression.node {
    case .filter(_, let name, _) where !isOptional: try check(filter: name, at: expression.location)
    case .test(_, let name, _) where !isOptional && ValueTests.named(name) == nil:
      throw TemplateError("there is no test named '\(name)'", at: expression.location)
    case .conditional: isOptional = true
    default: break
    }
    for part in expression.parts { try check(part, isOptional: isOptional) }
  }

  private static func check(filter name: String, at location: SourceLocation) throws(TemplateError) {
    guard Filters.named(name) != nil else { throw TemplateError("there is no filter named '\(name)'", at: location) }
  }
}
