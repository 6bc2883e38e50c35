/// An expression of a template.
struct Expression: Sendable {
  indirect enum Node: Sendable {
    case constant(Constant)
    case name(String)
    case list([Expression])
    case tuple([Expression])
    case dictionary([(key: Expression, value: Expression)])
    case unary(Unary, Expression)
    case binary(Binary, Expression, Expression)
    case concatenation([Expression])
    case and(Expression, Expression)
    case or(Expression, Expression)
    case comparison(Expression, [(Comparison, Expression)])
    case conditional(test: Expression, then: Expression, otherwise: Expression?)
    case attribute(Expression, String)
    case item(Expression, Expression)
    case slice(Expression, start: Expression?, stop: Expression?, step: Expression?)
    case call(Expression, Arguments)
    case filter(Expression, String, Arguments)
    case test(Expression, String, Arguments)
  }

  enum Constant: Sendable {
    case none
    case boolean(Bool)
    case integer(Int)
    case big(BigInteger)
    case float(Double)
    case string(String)
  }

  enum Unary: Sendable { case negate, plus, not }

  enum Binary: String, Sendable {
    case add = "+"
    case subtract = "-"
    case multiply = "*"
    case divide = "/"
    case floorDivide = "//"
    case modulo = "%"
    case power = "**"
  }

  enum Comparison: String, Sendable {
    case equal = "=="
    case notEqual = "!="
    case less = "<"
    case lessOrEqual = "<="
    case greater = ">"
    case greaterOrEqual = ">="
    case isIn = "in"
    case isNotIn = "not in"
  }

  /// The arguments of a call, a filter or a test.
  struct Arguments: Sendable {
    var positional: [Expression] = []
    var keyword: [(name: String, value: Expression)] = []
    /// `*arguments`.
    var list: Expression?
    /// `**arguments`.
    var dictionary: Expression?
  }

  let node: Node
  let location: SourceLocation
  /// How many expressions lie within each other, this one included.
  let height: Int
}

/// Where a value is put.
indirect enum AssignmentTarget: Sendable {
  case name(String)
  /// `namespace.name`.
  case attribute(of: String, String)
  case tuple([AssignmentTarget])
}

/// A statement of a template.
struct Statement: Sendable {
  indirect enum Node: Sendable {
    case text(String)
    case output(Expression)
    case loop(Loop)
    case condition([(test: Expression, body: [Statement])], otherwise: [Statement])
    case assign(AssignmentTarget, Expression)
    case assignBlock(AssignmentTarget, filters: [FilterCall], body: [Statement])
    case macro(Macro)
    case callBlock(Macro, call: Expression)
    case filterBlock([FilterCall], body: [Statement])
    case with([(target: AssignmentTarget, value: Expression)], body: [Statement])
    /// A stretch that is the assistant's (`{% generation %}`).
    case generation([Statement])
    case block([Statement], isScoped: Bool)
    case autoescape(Expression, body: [Statement])
    /// `include`, `import`, `from` or `extends`.
    case otherTemplate(String)
    case breakLoop
    case continueLoop
  }

  struct Loop: Sendable {
    var target: AssignmentTarget
    var sequence: Expression
    var test: Expression?
    var isRecursive: Bool
    var body: [Statement]
    var otherwise: [Statement]
  }

  struct Macro: Sendable {
    var name: String
    var parameters: [(name: String, standard: Expression?)]
    var body: [Statement]
    /// Which of `varargs`, `kwargs` and `caller` the body asks for.
    var usesNames: Set<String>

    init(name: String, parameters: [(name: String, standard: Expression?)], body: [Statement]) {
      self.name = name
      self.parameters = parameters
      self.body = body
      let defaults = parameters.compactMap(\.standard)
      usesNames = Set(
        ["varargs", "kwargs", "caller"].filter { name in
          body.contains { $0.uses(name) } || defaults.contains { $0.uses(name) }
        })
    }
  }

  /// A filter with its arguments, the value left open.
  struct FilterCall: Sendable {
    var name: String
    var arguments: Expression.Arguments
    var location: SourceLocation
  }

  let node: Node
  let location: SourceLocation
}
