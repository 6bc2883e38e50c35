import Glibc

/// Runs the tree of a template.
///
/// One interpreter renders one template once. A template is a stranger's program: every step, byte and level is counted,
/// and nothing but its own values can be reached.
final class Interpreter {
  private let limits: ChatTemplate.Limits
  private let globals: Scope
  private var steps = 0
  private var depth = 0
  private let startTime: Double
  /// The output, and above it what macros and blocks write while they are captured.
  private var outputs: [[UInt8]] = [[]]
  /// The stretches of the output that `{% generation %}` marks, in bytes.
  private(set) var generationRanges: [Range<Int>] = []
  /// Whether some of those lie where their place in the output is not known.
  private(set) var hasUnplacedGeneration = false
  /// What must be emptied at the end, since it may hold itself.
  private var namespaces: [TemplateNamespace] = []
  private var scopes: [Scope] = []

  /// What a statement did to the flow.
  private enum Flow { case next, breakLoop, continueLoop }

  init(limits: ChatTemplate.Limits, variables: [String: TemplateValue]) {
    self.limits = limits
    startTime = Self.processorSeconds()
    globals = Scope(outer: nil)
    globals.variables = Globals.all.merging(variables) { _, variable in variable }
  }

  /// Renders a template's body.
  func render(_ body: [Statement]) throws -> String {
    defer {
      for namespace in namespaces { namespace.values = TemplateDictionary() }
      for scope in scopes { scope.variables = [:] }
    }
    _ = try run(body, in: makeScope(in: globals))
    return String(decoding: outputs[0], as: UTF8.self)
  }

  // MARK: Limits

  private static func processorSeconds() -> Double {
    var time = timespec()
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) * 1e-9
  }

  /// Counts work: one step, or as many as the size of what is made asks for.
  func charge(_ count: Int = 1, at location: SourceLocation) throws(TemplateError) {
    let before = steps
    steps += max(0, min(count, limits.steps)) + 1
    if steps > limits.steps { throw TemplateError("the template takes more than \(limits.steps) steps", at: location) }
    if before >> 12 != steps >> 12, Self.processorSeconds() - startTime > limits.seconds {
      throw TemplateError("the template takes more than \(limits.seconds) seconds", at: location)
    }
  }

  /// Counts the bytes of a text that was made.
  func charge(bytes: Int, at location: SourceLocation) throws(TemplateError) {
    if bytes > limits.bytes { throw TemplateError("a text is longer than \(limits.bytes) bytes", at: location) }
    try charge(bytes / 32, at: location)
  }

  func descend(at location: SourceLocation) throws(TemplateError) {
    depth += 1
    if depth > limits.depth { throw TemplateError("more than \(limits.depth) levels deep", at: location) }
  }

  func ascend() { depth -= 1 }

  private func makeScope(in outer: Scope) -> Scope { Scope(outer: outer) }

  func register(_ namespace: TemplateNamespace) { namespaces.append(namespace) }

  // MARK: Output

  private func write(_ text: String, at location: SourceLocation) throws(TemplateError) {
    let last = outputs.count - 1
    outputs[last].append(contentsOf: text.utf8)
    if outputs[last].count > limits.bytes {
      throw TemplateError("the output is longer than \(limits.bytes) bytes", at: location)
    }
    try charge(text.utf8.count / 32, at: location)
  }

  /// What `body` writes, as a text of its own.
  private func capture(_ body: () throws -> Void) throws -> String {
    outputs.append([])
    do {
      try body()
    } catch {
      outputs.removeLast()
      throw error
    }
    return String(decoding: outputs.removeLast(), as: UTF8.self)
  }

  // MARK: Statements

  private func run(_ body: [Statement], in scope: Scope) throws -> Flow {
    for statement in body {
      let flow = try run(statement, in: scope)
      if flow != .next { return flow }
    }
    return .next
  }

  private func run(_ statement: Statement, in scope: Scope) throws -> Flow {
    try charge(at: statement.location)
    switch statement.node {
    case .text(let text): try write(text, at: statement.location)
    case .output(let expression): try write(evaluate(expression, scope).text(), at: statement.location)
    case .condition(let branches, let otherwise):
      for branch in branches where try evaluate(branch.test, scope).isTrue {
        return try nested(branch.body, scope, statement)
      }
      return try nested(otherwise, scope, statement)
    case .loop(let loop): try run(loop, over: nil, depth: 0, in: scope, at: statement.location)
    case .assign(let target, let value): try assign(evaluate(value, scope), to: target, scope, at: statement.location)
    case .breakLoop: return .breakLoop
    case .continueLoop: return .continueLoop
    default: try runBlock(statement, in: scope)
    }
    return .next
  }

  private func nested(_ body: [Statement], _ scope: Scope, _ statement: Statement) throws -> Flow {
    try descend(at: statement.location)
    defer { ascend() }
    return try run(body, in: scope)
  }

  private func runBlock(_ statement: Statement, in scope: Scope) throws {
    try descend(at: statement.location)
    defer { ascend() }
    switch statement.node {
    case .assignBlock(let target, let filters, let body):
      var value = TemplateValue.string(try capture { _ = try run(body, in: makeScope(in: scope)) })
      for filter in filters { value = try apply(filter, to: value, scope) }
      try assign(value, to: target, scope, at: statement.location)
    case .macro(let macro):
      scopes.append(scope)
      scope.variables[macro.name] = .function(makeMacro(macro, in: scope))
    case .callBlock(let body, let call):
      scopes.append(scope)
      guard case .call(let callee, let arguments) = call.node else { return }
      var values = try evaluate(arguments, scope, at: call.location)
      values.keyword.append(("caller", .function(makeMacro(body, in: scope))))
      let result = try self.call(evaluate(callee, scope), values, at: call.location)
      try write(result.text(), at: statement.location)
    case .filterBlock(let filters, let body):
      var value = TemplateValue.string(try capture { _ = try run(body, in: makeScope(in: scope)) })
      for filter in filters { value = try apply(filter, to: value, scope) }
      try write(value.text(), at: statement.location)
    case .with(let assignments, let body):
      let inner = makeScope(in: scope)
      for (target, value) in assignments {
        try assign(evaluate(value, scope), to: target, inner, at: statement.location)
      }
      _ = try run(body, in: inner)
    case .generation(let body):
      let start = outputs[0].count
      let isPlaced = outputs.count == 1
      let text = try capture { _ = try run(body, in: makeScope(in: scope)) }
      if isPlaced {
        generationRanges.append(start..<start + text.utf8.count)
      } else {
        hasUnplacedGeneration = true
      }
      try write(text, at: statement.location)
    case .block(let body): _ = try run(body, in: makeScope(in: scope))
    default: break
    }
  }

  private func assign(
    _ value: TemplateValue, to target: AssignmentTarget, _ scope: Scope, at location: SourceLocation
  ) throws {
    switch target {
    case .name(let name):
      scope.variables[name] = value
    case .attribute(let name, let attribute):
      guard case .namespace(let namespace)? = scope.find(name) else {
        throw TemplateError("cannot assign attribute '\(attribute)' on what is no namespace", at: location)
      }
      namespace.values[attribute] = value
    case .tuple(let targets):
      let values = try elements(of: value, at: location)
      guard values.count == targets.count else {
        throw TemplateError("\(values.count) values cannot be unpacked into \(targets.count) names", at: location)
      }
      for (target, value) in zip(targets, values) { try assign(value, to: target, scope, at: location) }
    }
  }

  /// How deep lists may lie within lists.
  private static let maximumNesting = 600

  /// A value that was just made, once its size is counted.
  ///
  /// Lists that hold one list many times are small to make and huge to write: what counts is the size written out.
  private func counted(_ value: TemplateValue, at location: SourceLocation) throws(TemplateError) -> TemplateValue {
    guard value.isContainer else { return value }
    var level: [TemplateValue] = [value]
    var nesting = 0
    while !level.isEmpty {
      nesting += 1
      if nesting > Self.maximumNesting {
        throw TemplateError("more than \(Self.maximumNesting) lists lie within each other", at: location)
      }
      var next: [TemplateValue] = []
      for value in level {
        let items: [TemplateValue]
        switch value {
        case .list(let values), .tuple(let values): items = values
        case .dictionary(let values): items = values.values
        default: continue
        }
        try charge(items.count / 4, at: location)
        next.append(contentsOf: items.lazy.filter(\.isContainer))
      }
      level = next
    }
    return value
  }

  private func run(
    _ loop: Statement.Loop, over given: TemplateValue?, depth loopDepth: Int, in scope: Scope,
    at location: SourceLocation
  ) throws {
    try descend(at: location)
    defer { ascend() }
    var items = try elements(of: given ?? evaluate(loop.sequence, scope), at: loop.sequence.location)
    if let test = loop.test {
      items = try items.filter { item in
        let inner = makeScope(in: scope)
        try assign(item, to: loop.target, inner, at: location)
        return try evaluate(test, inner).isTrue
      }
    }
    if items.isEmpty {
      _ = try run(loop.otherwise, in: makeScope(in: scope))
      return
    }
    var recurse: ((TemplateValue, SourceLocation) throws -> TemplateValue)?
    if loop.isRecursive {
      recurse = { [unowned self] items, location in
        .string(try capture { try run(loop, over: items, depth: loopDepth + 1, in: scope, at: location) })
      }
    }
    let state = LoopState(items, depth: loopDepth, recurse: recurse)
    for (index, item) in items.enumerated() {
      state.index = index
      try charge(at: location)
      let inner = makeScope(in: scope)
      inner.variables["loop"] = .loop(state)
      try assign(item, to: loop.target, inner, at: location)
      if try run(loop.body, in: inner) == .breakLoop { break }
    }
  }

  private func makeMacro(_ macro: Statement.Macro, in scope: Scope) -> TemplateFunction {
    TemplateFunction(macro.name) { interpreter, arguments, location in
      let inner = interpreter.makeScope(in: scope)
      try interpreter.bind(arguments, to: macro, inner, at: location)
      try interpreter.descend(at: location)
      defer { interpreter.ascend() }
      return .string(try interpreter.capture { _ = try interpreter.run(macro.body, in: inner) })
    }
  }

  private func bind(
    _ arguments: CallArguments, to macro: Statement.Macro, _ scope: Scope, at location: SourceLocation
  ) throws {
    var rest = arguments.positional[...]
    var keyword = arguments.keyword
    for (name, standard) in macro.parameters {
      if let value = rest.popFirst() {
        scope.variables[name] = value
      } else if let index = keyword.firstIndex(where: { $0.name == name }) {
        scope.variables[name] = keyword.remove(at: index).value
      } else if let standard {
        scope.variables[name] = try evaluate(standard, scope)
      } else {
        scope.variables[name] = .undefined("parameter '\(name)' was not provided")
      }
    }
    if let index = keyword.firstIndex(where: { $0.name == "caller" }) {
      scope.variables["caller"] = keyword.remove(at: index).value
    } else if scope.variables["caller"] == nil {
      scope.variables["caller"] = .undefined("no caller defined")
    }
    scope.variables["varargs"] = .tuple(Array(rest))
    var extra = TemplateDictionary()
    for (name, value) in keyword { extra[name] = value }
    scope.variables["kwargs"] = .dictionary(extra)
    if !rest.isEmpty, !macro.usesName("varargs") {
      throw TemplateError("macro '\(macro.name)' takes not more than \(macro.parameters.count) arguments", at: location)
    }
    if let (name, _) = keyword.first, !macro.usesName("kwargs") {
      throw TemplateError("macro '\(macro.name)' takes no keyword argument '\(name)'", at: location)
    }
  }

  // MARK: Expressions

  func evaluate(_ expression: Expression, _ scope: Scope) throws -> TemplateValue {
    try charge(at: expression.location)
    switch expression.node {
    case .constant(let constant): return Self.value(constant)
    case .name(let name): return scope.find(name) ?? .undefined("'\(name)' is undefined")
    default: break
    }
    try descend(at: expression.location)
    defer { ascend() }
    switch expression.node {
    case .attribute(let value, let name):
      return try attribute(name, of: evaluate(value, scope), at: expression.location)
    case .item(let value, let key):
      return try item(evaluate(key, scope), of: evaluate(value, scope), at: expression.location)
    case .and(let left, let right):
      let value = try evaluate(left, scope)
      return value.isTrue ? try evaluate(right, scope) : value
    case .or(let left, let right):
      let value = try evaluate(left, scope)
      return value.isTrue ? value : try evaluate(right, scope)
    case .call(let callee, let arguments):
      return try counted(
        evaluateCall(callee, arguments, scope, at: expression.location), at: expression.location)
    case .filter(let value, let name, let arguments):
      let call = Statement.FilterCall(name: name, arguments: arguments, location: expression.location)
      return try counted(apply(call, to: evaluate(value, scope), scope), at: expression.location)
    case .test(let value, let name, let arguments):
      return .boolean(
        try test(
          evaluate(value, scope), name, evaluate(arguments, scope, at: expression.location), at: expression.location))
    default: return try evaluateOperation(expression, scope)
    }
  }

  private static func value(_ constant: Expression.Constant) -> TemplateValue {
    switch constant {
    case .none: .none
    case .boolean(let value): .boolean(value)
    case .integer(let value): .integer(value)
    case .float(let value): .float(value)
    case .string(let value): .string(value)
    }
  }

  private func evaluateOperation(_ expression: Expression, _ scope: Scope) throws -> TemplateValue {
    let location = expression.location
    switch expression.node {
    case .list(let items): return try counted(.list(items.map { try evaluate($0, scope) }), at: location)
    case .tuple(let items): return try counted(.tuple(items.map { try evaluate($0, scope) }), at: location)
    case .dictionary(let items):
      var dictionary = TemplateDictionary()
      for (key, value) in items {
        let key = try evaluate(key, scope)
        guard TemplateDictionary.canBeKey(key) else {
          throw TemplateError("a value of type \(key.typeName) cannot be a key", at: location)
        }
        dictionary[key] = try evaluate(value, scope)
      }
      return try counted(.dictionary(dictionary), at: location)
    case .unary(let operation, let operand):
      return try Operators.apply(operation, to: evaluate(operand, scope), at: location)
    case .binary(let operation, let left, let right):
      return try counted(
        Operators.apply(operation, evaluate(left, scope), evaluate(right, scope), self, at: location), at: location)
    case .concatenation(let parts):
      var text = ""
      for part in parts { text += try evaluate(part, scope).text() }
      try charge(bytes: text.utf8.count, at: location)
      return .string(text)
    case .comparison(let first, let rest):
      var left = try evaluate(first, scope)
      for (comparison, next) in rest {
        let right = try evaluate(next, scope)
        guard try Operators.compare(left, comparison, right, self, at: location) else { return .boolean(false) }
        left = right
      }
      return .boolean(true)
    case .conditional(let test, let then, let otherwise):
      if try evaluate(test, scope).isTrue { return try evaluate(then, scope) }
      if let otherwise { return try evaluate(otherwise, scope) }
      return .undefined("the conditional expression has no else")
    case .slice(let value, let start, let stop, let step):
      return try Operators.slice(
        evaluate(value, scope), start: start.map { try evaluate($0, scope) },
        stop: stop.map { try evaluate($0, scope) },
        step: step.map { try evaluate($0, scope) }, self, at: location)
    default: return .none
    }
  }

  private func evaluateCall(
    _ callee: Expression, _ arguments: Expression.Arguments, _ scope: Scope, at location: SourceLocation
  ) throws -> TemplateValue {
    let function = try evaluate(callee, scope)
    return try call(function, evaluate(arguments, scope, at: location), at: location)
  }

  func call(_ callee: TemplateValue, _ arguments: CallArguments, at location: SourceLocation) throws -> TemplateValue {
    switch callee {
    case .function(let function): return try function.call(self, arguments, location)
    case .loop(let loop):
      guard let recurse = loop.recurse else { throw TemplateError("the loop is not recursive", at: location) }
      guard let items = arguments.positional.first else {
        throw TemplateError("loop() needs what to go over", at: location)
      }
      return try recurse(items, location)
    case .undefined(let reason): throw TemplateError(reason, at: location)
    default: throw TemplateError("a value of type \(callee.typeName) cannot be called", at: location)
    }
  }

  private func evaluate(
    _ arguments: Expression.Arguments, _ scope: Scope, at location: SourceLocation
  ) throws -> CallArguments {
    var values = CallArguments()
    for argument in arguments.positional { values.positional.append(try evaluate(argument, scope)) }
    for (name, argument) in arguments.keyword { values.keyword.append((name, try evaluate(argument, scope))) }
    if let list = arguments.list { values.positional += try elements(of: evaluate(list, scope), at: location) }
    if let dictionary = arguments.dictionary {
      guard case .dictionary(let items) = try evaluate(dictionary, scope) else {
        throw TemplateError("the argument after '**' must be a dictionary", at: location)
      }
      for (key, value) in zip(items.keys, items.values) { values.keyword.append((key.text(), value)) }
    }
    return values
  }

  private func apply(_ filter: Statement.FilterCall, to value: TemplateValue, _ scope: Scope) throws -> TemplateValue {
    try apply(
      filter: filter.name, to: value, evaluate(filter.arguments, scope, at: filter.location), at: filter.location)
  }

  func apply(
    filter name: String, to value: TemplateValue, _ arguments: CallArguments, at location: SourceLocation
  ) throws -> TemplateValue {
    guard let filter = Filters.named(name) else {
      throw TemplateError("there is no filter named '\(name)'", at: location)
    }
    return try filter(self, value, arguments, location)
  }

  func test(
    _ value: TemplateValue, _ name: String, _ arguments: CallArguments, at location: SourceLocation
  ) throws -> Bool {
    guard let test = ValueTests.named(name) else {
      throw TemplateError("there is no test named '\(name)'", at: location)
    }
    return try test(self, value, arguments.positional + arguments.keyword.map(\.value), location)
  }

  // MARK: Parts of values

  /// What a loop goes over.
  func elements(of value: TemplateValue, at location: SourceLocation) throws(TemplateError) -> [TemplateValue] {
    switch value {
    case .list(let values), .tuple(let values):
      try charge(values.count / 16, at: location)
      return values
    case .dictionary(let values): return values.keys
    case .string(let text):
      try charge(text.utf8.count, at: location)
      return text.unicodeScalars.map { .string(String($0)) }
    case .undefined: return []
    default: throw TemplateError("a value of type \(value.typeName) cannot be iterated", at: location)
    }
  }

  /// `value.name`: Python's attribute, else the item of that name.
  func attribute(_ name: String, of value: TemplateValue, at location: SourceLocation) throws(TemplateError)
    -> TemplateValue
  {
    switch value {
    case .undefined(let reason): throw TemplateError(reason, at: location)
    case .namespace(let namespace):
      return namespace.values[name] ?? .undefined("'Namespace' object has no attribute '\(name)'")
    case .loop(let loop): return loop.attribute(name) ?? .undefined("'loop' has no attribute '\(name)'")
    case .dictionary(let items):
      if let method = Methods.named(name, of: value) { return .function(method) }
      return items[name] ?? .undefined("'dict object' has no attribute '\(name)'")
    default:
      if let method = Methods.named(name, of: value) { return .function(method) }
      return .undefined("'\(value.typeName) object' has no attribute '\(name)'")
    }
  }

  /// `value[key]`: the item, else the attribute of that name.
  func item(_ key: TemplateValue, of value: TemplateValue, at location: SourceLocation) throws(TemplateError)
    -> TemplateValue
  {
    switch value {
    case .undefined(let reason): throw TemplateError(reason, at: location)
    case .dictionary(let items):
      if let item = items[key] { return item }
    case .list(let values), .tuple(let values):
      if let index = key.asInteger {
        let place = index < 0 ? index + values.count : index
        if values.indices.contains(place) { return values[place] }
        return .undefined("'\(value.typeName) object' has no element \(index)")
      }
    case .string(let text):
      if let index = key.asInteger {
        try charge(text.utf8.count / 64, at: location)
        let scalars = text.unicodeScalars
        let count = scalars.count
        let place = index < 0 ? index + count : index
        guard place >= 0, place < count else { return .undefined("'str object' has no element \(index)") }
        return .string(String(scalars[scalars.index(scalars.startIndex, offsetBy: place)]))
      }
    default: break
    }
    if case .string(let name) = key { return try attribute(name, of: value, at: location) }
    return .undefined("'\(value.typeName) object' has no element \(key.representation())")
  }
}

extension TemplateValue {
  fileprivate var isContainer: Bool {
    switch self {
    case .list, .tuple, .dictionary: true
    default: false
    }
  }
}

extension Statement.Macro {
  /// Whether a name occurs among the expressions of the body.
  func usesName(_ name: String) -> Bool { body.contains { $0.uses(name) } }
}

extension Statement {
  fileprivate func uses(_ name: String) -> Bool {
    func any(_ body: [Statement]) -> Bool { body.contains { $0.uses(name) } }
    switch node {
    case .text, .breakLoop, .continueLoop: return false
    case .output(let value), .assign(_, let value): return value.uses(name)
    case .loop(let loop):
      return loop.sequence.uses(name) || loop.test?.uses(name) ?? false || any(loop.body) || any(loop.otherwise)
    case .condition(let branches, let otherwise):
      return branches.contains { $0.test.uses(name) || any($0.body) } || any(otherwise)
    case .assignBlock(_, let filters, let body), .filterBlock(let filters, let body):
      return filters.contains { $0.arguments.uses(name) } || any(body)
    case .macro(let macro): return any(macro.body)
    case .callBlock(let macro, let call): return call.uses(name) || any(macro.body)
    case .with(let items, let body): return items.contains { $0.value.uses(name) } || any(body)
    case .generation(let body), .block(let body): return any(body)
    }
  }
}

extension Expression.Arguments {
  fileprivate func uses(_ name: String) -> Bool {
    positional.contains { $0.uses(name) } || keyword.contains { $0.value.uses(name) } || list?.uses(name) ?? false
      || dictionary?.uses(name) ?? false
  }
}

extension Expression {
  fileprivate func uses(_ name: String) -> Bool {
    switch node {
    case .constant: return false
    case .name(let other): return other == name
    case .list(let items), .tuple(let items), .concatenation(let items): return items.contains { $0.uses(name) }
    case .dictionary(let items): return items.contains { $0.key.uses(name) || $0.value.uses(name) }
    case .unary(_, let value), .attribute(let value, _): return value.uses(name)
    case .binary(_, let a, let b), .and(let a, let b), .or(let a, let b), .item(let a, let b):
      return a.uses(name) || b.uses(name)
    case .comparison(let first, let rest): return first.uses(name) || rest.contains { $0.1.uses(name) }
    case .conditional(let test, let then, let otherwise):
      return test.uses(name) || then.uses(name) || otherwise?.uses(name) ?? false
    case .slice(let value, let start, let stop, let step):
      return [value, start, stop, step].contains { $0?.uses(name) ?? false }
    case .call(let value, let arguments), .filter(let value, _, let arguments), .test(let value, _, let arguments):
      return value.uses(name) || arguments.uses(name)
    }
  }
}
