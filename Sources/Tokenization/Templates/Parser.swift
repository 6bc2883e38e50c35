/// Builds the tree of a template from its tokens.
struct Parser {
  /// How deep statements and expressions may lie within each other.
  static let maximumDepth = 100
  /// How many operations may be chained in one expression.
  static let maximumHeight = 500

  private let tokens: [Token]
  private var index = 0
  private var depth = 0
  private var loops = 0
  private var blocks: Set<String> = []
  /// Whether `{% generation %}` occurs.
  private(set) var hasGeneration = false

  /// Parses a whole template.
  static func parse(_ source: String) throws(TemplateError) -> (body: [Statement], hasGeneration: Bool) {
    var parser = Parser(tokens: try Lexer.tokenize(source))
    let body = try parser.parseBody(until: [])
    try NameCheck.check(body)
    return (body, parser.hasGeneration)
  }

  private init(tokens: [Token]) { self.tokens = tokens }

  // MARK: Tokens

  private var current: Token { tokens[min(index, tokens.count - 1)] }
  private var following: Token { tokens[min(index + 1, tokens.count - 1)] }

  private mutating func advance() { index += 1 }

  private func isName(_ name: String) -> Bool { current.kind == .name(name) }
  private func isSymbol(_ symbol: Token.Symbol) -> Bool { current.kind == .symbol(symbol) }

  private mutating func skip(_ symbol: Token.Symbol) -> Bool {
    guard isSymbol(symbol) else { return false }
    advance()
    return true
  }

  private mutating func skip(name: String) -> Bool {
    guard isName(name) else { return false }
    advance()
    return true
  }

  private func unexpected(_ wanted: String) -> TemplateError {
    TemplateError("expected \(wanted), found \(current.description)", at: current.location)
  }

  private mutating func expect(_ symbol: Token.Symbol) throws(TemplateError) {
    guard skip(symbol) else { throw unexpected("'\(symbol.rawValue)'") }
  }

  private mutating func expectName() throws(TemplateError) -> String {
    guard case .name(let name) = current.kind else { throw unexpected("a name") }
    advance()
    return name
  }

  private mutating func expectBlockEnd() throws(TemplateError) {
    guard current.kind == .blockEnd else { throw unexpected("'%}'") }
    advance()
  }

  private mutating func descend() throws(TemplateError) {
    depth += 1
    if depth > Self.maximumDepth {
      throw TemplateError("more than \(Self.maximumDepth) levels lie within each other", at: current.location)
    }
  }

  // MARK: Statements

  /// Parses up to a block that starts with one of `ends`; its name is then the current token.
  private mutating func parseBody(until ends: [String]) throws(TemplateError) -> [Statement] {
    try descend()
    defer { depth -= 1 }
    var body: [Statement] = []
    while true {
      let token = current
      switch token.kind {
      case .data(let text):
        advance()
        body.append(Statement(node: .text(text), location: token.location))
      case .variableBegin:
        advance()
        let expression = try parseTuple(location: current.location)
        guard current.kind == .variableEnd else { throw unexpected("'}}'") }
        advance()
        body.append(Statement(node: .output(expression), location: token.location))
      case .blockBegin:
        advance()
        if case .name(let name) = current.kind, ends.contains(name) { return body }
        body.append(contentsOf: try parseStatement())
      case .end:
        guard ends.isEmpty else {
          throw TemplateError(
            "the template ends where \(ends.map { "'\($0)'" }.joined(separator: " or ")) was expected",
            at: token.location)
        }
        return body
      default: throw unexpected("text or a tag")
      }
    }
  }

  /// Parses a body, its opening block's end before it and its closing block's name after it.
  private mutating func parseBlock(until ends: String...) throws(TemplateError) -> (body: [Statement], end: String) {
    _ = skip(.colon)
    try expectBlockEnd()
    let body = try parseBody(until: ends)
    return (body, try expectName())
  }

  private mutating func parseStatement() throws(TemplateError) -> [Statement] {
    let location = current.location
    guard case .name(let name) = current.kind else { throw unexpected("the name of a tag") }
    advance()
    var statements: [Statement.Node]
    switch name {
    case "for": statements = [try parseFor()]
    case "if": statements = [try parseIf()]
    case "set": statements = [try parseSet()]
    case "macro": statements = [.macro(try parseMacro(name: try expectName()))]
    case "call": statements = [try parseCallBlock()]
    case "filter": statements = [try parseFilterBlock()]
    case "with": statements = [try parseWith()]
    case "print": statements = try parsePrint()
    case "break", "continue":
      guard loops > 0 else { throw TemplateError("'\(name)' stands outside of a loop", at: location) }
      statements = [name == "break" ? .breakLoop : .continueLoop]
    case "generation":
      hasGeneration = true
      statements = [.generation(try parseFunctionBody(until: "endgeneration"))]
    case "block": statements = [try parseNamedBlock()]
    case "autoescape":
      statements = [.autoescape(try parseExpression(), body: try parseBlock(until: "endautoescape").body)]
    case "include", "import", "from", "extends":
      // Only where it is reached it fails, as in Jinja without a loader.
      _ = try parseExpression()
      while current.kind != .blockEnd, current.kind != .end { advance() }
      statements = [.otherTemplate(name)]
    default: throw TemplateError("the tag '\(name)' is not known", at: location)
    }
    try expectBlockEnd()
    return statements.map { Statement(node: $0, location: location) }
  }

  /// Parses a body that loops around it cannot be left from.
  private mutating func parseFunctionBody(until end: String) throws(TemplateError) -> [Statement] {
    let outer = loops
    loops = 0
    defer { loops = outer }
    return try parseBlock(until: end).body
  }

  private mutating func parseNamedBlock() throws(TemplateError) -> Statement.Node {
    let location = current.location
    let name = try expectName()
    guard blocks.insert(name).inserted else { throw TemplateError("the block '\(name)' is there twice", at: location) }
    let isScoped = skip(name: "scoped")
    if isName("required") { throw TemplateError("a required block needs another template", at: current.location) }
    let body = try parseFunctionBody(until: "endblock")
    _ = skip(name: name)
    return .block(body, isScoped: isScoped)
  }

  private mutating func parseFor() throws(TemplateError) -> Statement.Node {
    let target = try parseTarget(allowsAttribute: false)
    guard skip(name: "in") else { throw unexpected("'in'") }
    let sequence = try parseTuple(location: current.location, allowsConditional: false, endsAt: "recursive")
    let test = skip(name: "if") ? try parseExpression() : nil
    let isRecursive = skip(name: "recursive")
    loops += 1
    let (body, end) = try parseBlock(until: "endfor", "else")
    loops -= 1
    var otherwise: [Statement] = []
    if end == "else" { otherwise = try parseBlock(until: "endfor").body }
    return .loop(
      Statement.Loop(
        target: target, sequence: sequence, test: test, isRecursive: isRecursive, body: body, otherwise: otherwise))
  }

  private mutating func parseIf() throws(TemplateError) -> Statement.Node {
    var branches: [(test: Expression, body: [Statement])] = []
    while true {
      let test = try parseTuple(location: current.location, allowsConditional: false)
      let (body, end) = try parseBlock(until: "elif", "else", "endif")
      branches.append((test, body))
      switch end {
      case "elif": continue
      case "else": return .condition(branches, otherwise: try parseBlock(until: "endif").body)
      default: return .condition(branches, otherwise: [])
      }
    }
  }

  private mutating func parseSet() throws(TemplateError) -> Statement.Node {
    let target = try parseTarget(allowsAttribute: true)
    if skip(.assign) { return .assign(target, try parseTuple(location: current.location)) }
    let filters = try parseFilterCalls()
    return .assignBlock(target, filters: filters, body: try parseBlock(until: "endset").body)
  }

  private mutating func parseMacro(name: String) throws(TemplateError) -> Statement.Macro {
    let parameters = try parseSignature()
    return Statement.Macro(name: name, parameters: parameters, body: try parseFunctionBody(until: "endmacro"))
  }

  private mutating func parseSignature() throws(TemplateError) -> [(name: String, standard: Expression?)] {
    var parameters: [(name: String, standard: Expression?)] = []
    try expect(.leftParenthesis)
    while !isSymbol(.rightParenthesis) {
      if !parameters.isEmpty { try expect(.comma) }
      let location = current.location
      let name = try expectName()
      if parameters.contains(where: { $0.name == name }) {
        throw TemplateError("the parameter '\(name)' is there twice", at: location)
      }
      if skip(.assign) {
        parameters.append((name, try parseExpression()))
      } else if parameters.last?.standard != nil {
        throw TemplateError("a parameter without a default follows one with a default", at: location)
      } else {
        parameters.append((name, nil))
      }
    }
    try expect(.rightParenthesis)
    return parameters
  }

  private mutating func parseCallBlock() throws(TemplateError) -> Statement.Node {
    let parameters = isSymbol(.leftParenthesis) ? try parseSignature() : []
    let call = try parseExpression()
    guard case .call = call.node else { throw TemplateError("expected a call", at: call.location) }
    let body = try parseFunctionBody(until: "endcall")
    return .callBlock(Statement.Macro(name: "caller", parameters: parameters, body: body), call: call)
  }

  private mutating func parseFilterBlock() throws(TemplateError) -> Statement.Node {
    let filters = try [parseFilterCall()] + parseFilterCalls()
    return .filterBlock(filters, body: try parseBlock(until: "endfilter").body)
  }

  private mutating func parseWith() throws(TemplateError) -> Statement.Node {
    var assignments: [(target: AssignmentTarget, value: Expression)] = []
    while current.kind != .blockEnd {
      if !assignments.isEmpty { try expect(.comma) }
      let target = try parseTarget(allowsAttribute: false)
      try expect(.assign)
      assignments.append((target, try parseExpression()))
    }
    return .with(assignments, body: try parseBlock(until: "endwith").body)
  }

  private mutating func parsePrint() throws(TemplateError) -> [Statement.Node] {
    var outputs: [Statement.Node] = []
    while current.kind != .blockEnd {
      if !outputs.isEmpty { try expect(.comma) }
      outputs.append(.output(try parseExpression()))
    }
    return outputs
  }

  private mutating func parseTarget(allowsAttribute: Bool) throws(TemplateError) -> AssignmentTarget {
    try descend()
    defer { depth -= 1 }
    var targets: [AssignmentTarget] = []
    var isTuple = false
    while true {
      if isSymbol(.leftParenthesis) {
        advance()
        targets.append(try parseTarget(allowsAttribute: allowsAttribute))
        try expect(.rightParenthesis)
      } else {
        let location = current.location
        let name = try expectName()
        if ["true", "false", "none", "True", "False", "None"].contains(name) {
          throw TemplateError("'\(name)' cannot be assigned to", at: location)
        }
        if allowsAttribute, skip(.dot) {
          targets.append(.attribute(of: name, try expectName()))
        } else {
          targets.append(.name(name))
        }
      }
      guard skip(.comma) else { break }
      isTuple = true
      if isSymbol(.rightParenthesis) || current.kind == .blockEnd { break }
    }
    return isTuple ? .tuple(targets) : targets[0]
  }

  // MARK: Expressions

  private func make(_ node: Expression.Node, _ location: SourceLocation, _ parts: Expression?...) throws(TemplateError)
    -> Expression
  {
    try make(node, location, over: parts.compactMap { $0 })
  }

  private func make(
    _ node: Expression.Node, _ location: SourceLocation, over parts: [Expression]
  ) throws(TemplateError) -> Expression {
    let height = 1 + (parts.map(\.height).max() ?? 0)
    if height > Self.maximumHeight {
      throw TemplateError("the expression chains more than \(Self.maximumHeight) operations", at: location)
    }
    return Expression(node: node, location: location, height: height)
  }

  /// An expression, or a tuple of expressions with commas between them.
  private mutating func parseTuple(
    location: SourceLocation, allowsConditional: Bool = true, endsAt end: String? = nil, isInParentheses: Bool = false
  ) throws(TemplateError) -> Expression {
    var items: [Expression] = []
    var isTuple = false
    while true {
      switch current.kind {
      case .variableEnd, .blockEnd, .symbol(.rightParenthesis): break
      case .name(let name) where name == end: break
      default:
        items.append(allowsConditional ? try parseExpression() : try parseOr())
        if skip(.comma) {
          isTuple = true
          continue
        }
      }
      break
    }
    if !isTuple {
      if let item = items.first { return item }
      guard isInParentheses else { throw unexpected("an expression") }
    }
    return try make(.tuple(items), location, over: items)
  }

  private mutating func parseExpression() throws(TemplateError) -> Expression {
    try descend()
    defer { depth -= 1 }
    let location = current.location
    var expression = try parseOr()
    while skip(name: "if") {
      let test = try parseOr()
      let otherwise = skip(name: "else") ? try parseExpression() : nil
      expression = try make(
        .conditional(test: test, then: expression, otherwise: otherwise), location, test, expression, otherwise)
    }
    return expression
  }

  private mutating func parseOr() throws(TemplateError) -> Expression {
    var left = try parseAnd()
    while isName("or") {
      let location = current.location
      advance()
      let right = try parseAnd()
      left = try make(.or(left, right), location, left, right)
    }
    return left
  }

  private mutating func parseAnd() throws(TemplateError) -> Expression {
    var left = try parseNot()
    while isName("and") {
      let location = current.location
      advance()
      let right = try parseNot()
      left = try make(.and(left, right), location, left, right)
    }
    return left
  }

  private mutating func parseNot() throws(TemplateError) -> Expression {
    guard isName("not") else { return try parseComparison() }
    try descend()
    defer { depth -= 1 }
    let location = current.location
    advance()
    let operand = try parseNot()
    return try make(.unary(.not, operand), location, operand)
  }

  private mutating func parseComparison() throws(TemplateError) -> Expression {
    let first = try parseSum()
    let location = current.location
    var rest: [(Expression.Comparison, Expression)] = []
    while true {
      let comparison: Expression.Comparison
      if case .symbol(let symbol) = current.kind, let found = Expression.Comparison(rawValue: symbol.rawValue) {
        comparison = found
        advance()
      } else if skip(name: "in") {
        comparison = .isIn
      } else if isName("not"), following.kind == .name("in") {
        advance()
        advance()
        comparison = .isNotIn
      } else {
        break
      }
      rest.append((comparison, try parseSum()))
    }
    if rest.isEmpty { return first }
    return try make(.comparison(first, rest), location, over: [first] + rest.map(\.1))
  }

  private mutating func parseSum() throws(TemplateError) -> Expression {
    var left = try parseConcatenation()
    while isSymbol(.add) || isSymbol(.subtract) {
      let location = current.location
      let operation: Expression.Binary = isSymbol(.add) ? .add : .subtract
      advance()
      let right = try parseConcatenation()
      left = try make(.binary(operation, left, right), location, left, right)
    }
    return left
  }

  private mutating func parseConcatenation() throws(TemplateError) -> Expression {
    let first = try parseProduct()
    guard isSymbol(.concatenate) else { return first }
    let location = current.location
    var parts = [first]
    while skip(.concatenate) { parts.append(try parseProduct()) }
    return try make(.concatenation(parts), location, over: parts)
  }

  private mutating func parseProduct() throws(TemplateError) -> Expression {
    var left = try parsePower()
    while case .symbol(let symbol) = current.kind,
      symbol == .multiply || symbol == .divide || symbol == .floorDivide || symbol == .modulo,
      let operation = Expression.Binary(rawValue: symbol.rawValue)
    {
      let location = current.location
      advance()
      let right = try parsePower()
      left = try make(.binary(operation, left, right), location, left, right)
    }
    return left
  }

  private mutating func parsePower() throws(TemplateError) -> Expression {
    var left = try parseUnary()
    while isSymbol(.power) {
      let location = current.location
      advance()
      let right = try parseUnary()
      left = try make(.binary(.power, left, right), location, left, right)
    }
    return left
  }

  private mutating func parseUnary(allowsFilters: Bool = true) throws(TemplateError) -> Expression {
    try descend()
    defer { depth -= 1 }
    let location = current.location
    var expression: Expression
    if isSymbol(.subtract) || isSymbol(.add) {
      let operation: Expression.Unary = isSymbol(.subtract) ? .negate : .plus
      advance()
      let operand = try parseUnary(allowsFilters: false)
      expression = try make(.unary(operation, operand), location, operand)
    } else {
      expression = try parsePrimary()
    }
    expression = try parsePostfix(expression)
    return allowsFilters ? try parseFilters(expression) : expression
  }

  private mutating func parsePrimary() throws(TemplateError) -> Expression {
    let location = current.location
    switch current.kind {
    case .name(let name):
      advance()
      switch name {
      case "true", "True": return try make(.constant(.boolean(true)), location)
      case "false", "False": return try make(.constant(.boolean(false)), location)
      case "none", "None": return try make(.constant(.none), location)
      default: return try make(.name(name), location)
      }
    case .string(var text):
      advance()
      while case .string(let more) = current.kind {
        text += more
        advance()
      }
      return try make(.constant(.string(text)), location)
    case .integer(let value):
      advance()
      return try make(.constant(.integer(value)), location)
    case .big(let value):
      advance()
      return try make(.constant(.big(value)), location)
    case .float(let value):
      advance()
      return try make(.constant(.float(value)), location)
    case .symbol(.leftParenthesis):
      advance()
      let expression = try parseTuple(location: location, isInParentheses: true)
      try expect(.rightParenthesis)
      return expression
    case .symbol(.leftBracket):
      advance()
      var items: [Expression] = []
      while !isSymbol(.rightBracket) {
        if !items.isEmpty { try expect(.comma) }
        if isSymbol(.rightBracket) { break }
        items.append(try parseExpression())
      }
      try expect(.rightBracket)
      return try make(.list(items), location, over: items)
    case .symbol(.leftBrace):
      advance()
      var items: [(key: Expression, value: Expression)] = []
      while !isSymbol(.rightBrace) {
        if !items.isEmpty { try expect(.comma) }
        if isSymbol(.rightBrace) { break }
        let key = try parseExpression()
        try expect(.colon)
        items.append((key, try parseExpression()))
      }
      try expect(.rightBrace)
      return try make(.dictionary(items), location, over: items.flatMap { [$0.key, $0.value] })
    default: throw unexpected("an expression")
    }
  }

  private mutating func parsePostfix(_ first: Expression) throws(TemplateError) -> Expression {
    var expression = first
    while true {
      if isSymbol(.dot) {
        let location = current.location
        advance()
        if case .integer(let value) = current.kind {
          advance()
          let item = try make(.constant(.integer(value)), location)
          expression = try make(.item(expression, item), location, expression)
        } else {
          expression = try make(.attribute(expression, try expectName()), location, expression)
        }
      } else if isSymbol(.leftBracket) {
        expression = try parseSubscript(expression)
      } else if isSymbol(.leftParenthesis) {
        expression = try parseCall(expression)
      } else {
        return expression
      }
    }
  }

  private mutating func parseCall(_ callee: Expression) throws(TemplateError) -> Expression {
    let location = current.location
    let arguments = try parseArguments()
    return try make(.call(callee, arguments), location, over: [callee] + arguments.parts)
  }

  private mutating func parseSubscript(_ value: Expression) throws(TemplateError) -> Expression {
    let location = current.location
    try expect(.leftBracket)
    var start: Expression?
    if !isSymbol(.colon) {
      var items = [try parseExpression()]
      while skip(.comma) { items.append(try parseExpression()) }
      if skip(.rightBracket) {
        let item = items.count == 1 ? items[0] : try make(.tuple(items), location, over: items)
        return try make(.item(value, item), location, value, item)
      }
      guard items.count == 1 else { throw unexpected("']'") }
      start = items[0]
    }
    try expect(.colon)
    let stop = isSymbol(.colon) || isSymbol(.rightBracket) ? nil : try parseExpression()
    var step: Expression?
    if skip(.colon), !isSymbol(.rightBracket) { step = try parseExpression() }
    try expect(.rightBracket)
    return try make(.slice(value, start: start, stop: stop, step: step), location, value, start, stop, step)
  }

  private mutating func parseArguments() throws(TemplateError) -> Expression.Arguments {
    var arguments = Expression.Arguments()
    var isFirst = true
    try expect(.leftParenthesis)
    while !isSymbol(.rightParenthesis) {
      if !isFirst {
        try expect(.comma)
        if isSymbol(.rightParenthesis) { break }
      }
      isFirst = false
      let location = current.location
      if skip(.multiply) {
        guard arguments.list == nil, arguments.dictionary == nil else {
          throw TemplateError("a second '*' among the arguments", at: location)
        }
        arguments.list = try parseExpression()
      } else if skip(.power) {
        guard arguments.dictionary == nil else {
          throw TemplateError("a second '**' among the arguments", at: location)
        }
        arguments.dictionary = try parseExpression()
      } else if case .name(let name) = current.kind, following.kind == .symbol(.assign) {
        guard !arguments.keyword.contains(where: { $0.name == name }) else {
          throw TemplateError("the argument '\(name)' is there twice", at: location)
        }
        advance()
        advance()
        arguments.keyword.append((name, try parseExpression()))
      } else {
        guard arguments.list == nil, arguments.dictionary == nil, arguments.keyword.isEmpty else {
          throw TemplateError("an argument without a name follows one with a name", at: location)
        }
        arguments.positional.append(try parseExpression())
      }
    }
    try expect(.rightParenthesis)
    return arguments
  }

  // MARK: Filters and tests

  private mutating func parseDottedName() throws(TemplateError) -> String {
    var name = try expectName()
    while skip(.dot) { name += "." + (try expectName()) }
    return name
  }

  private mutating func parseFilterCall() throws(TemplateError) -> Statement.FilterCall {
    let location = current.location
    let name = try parseDottedName()
    let arguments = isSymbol(.leftParenthesis) ? try parseArguments() : Expression.Arguments()
    return Statement.FilterCall(name: name, arguments: arguments, location: location)
  }

  private mutating func parseFilterCalls() throws(TemplateError) -> [Statement.FilterCall] {
    var filters: [Statement.FilterCall] = []
    while skip(.pipe) { filters.append(try parseFilterCall()) }
    return filters
  }

  private mutating func parseFilters(_ first: Expression) throws(TemplateError) -> Expression {
    var expression = first
    while true {
      if skip(.pipe) {
        let filter = try parseFilterCall()
        expression = try make(
          .filter(expression, filter.name, filter.arguments), filter.location,
          over: [expression] + filter.arguments.parts)
      } else if isName("is") {
        expression = try parseTest(expression)
      } else if isSymbol(.leftParenthesis) {
        expression = try parseCall(expression)
      } else {
        return expression
      }
    }
  }

  private mutating func parseTest(_ value: Expression) throws(TemplateError) -> Expression {
    advance()
    let isNegated = skip(name: "not")
    let location = current.location
    let name = try parseDottedName()
    var arguments = Expression.Arguments()
    switch current.kind {
    case .symbol(.leftParenthesis): arguments = try parseArguments()
    case .name("else"), .name("or"), .name("and"): break
    case .name("is"): throw TemplateError("tests cannot be chained with 'is'", at: current.location)
    case .name, .string, .integer, .big, .float, .symbol(.leftBracket), .symbol(.leftBrace):
      arguments.positional = [try parsePostfix(try parsePrimary())]
    default: break
    }
    let test = try make(.test(value, name, arguments), location, over: [value] + arguments.parts)
    return isNegated ? try make(.unary(.not, test), location, test) : test
  }
}
