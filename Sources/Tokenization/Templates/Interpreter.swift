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
  private var startTime = 0.0
  /// When the processor's time was last asked for, on a coarse clock that is cheap to read.
  private var lastLook = 0
  /// What `strftime_now` says.
  let now: TemplateTime
  /// Whether expressions are escaped when they are written (`{% autoescape %}`).
  private(set) var isEscaping = false
  /// Draws for `random`: the same in each rendering.
  var random = TemplateRandom()
  /// The output, and above it what macros and blocks write while they are captured.
  private var outputs: [[UInt8]] = [[]]
  /// The stretches of the output that `{% generation %}` marks, in bytes.
  private(set) var generationRanges: [Range<Int>] = []
  /// Whether some of those lie where their place in the output is not known.
  private(set) var hasUnplacedGeneration = false
  /// What must be emptied at the end, since it may hold itself.
  private var namespaces: [TemplateNamespace] = []
  private var scopes: [Scope] = []
  private var loops: [LoopState] = []
  private lazy var root = makeScope(in: globals)
  /// The variables around the innermost scoped block.
  private var blockScope: Scope?

  /// What a statement did to the flow.
  private enum Flow { case next, breakLoop, continueLoop }
  /// What ended the body that was captured last.
  private var flowOfCapture = Flow.next

  init(limits: ChatTemplate.Limits, variables: [String: TemplateValue], now: TemplateTime) {
    self.limits = limits
    self.now = now
    globals = Scope(outer: nil)
    globals.variables = Globals.all.merging(variables) { _, variable in variable }
  }

  /// Renders a template's body.
  func render(_ body: [Statement]) throws -> String {
    defer {
      for namespace in namespaces { namespace.values = TemplateDictionary() }
      for scope in scopes { scope.variables = [:] }
      for loop in loops { loop.forget() }
    }
    startTime = Self.processorSeconds()
    lastLook = Self.coarseMilliseconds()
    _ = try run(body, in: root)
    return String(decoding: outputs[0], as: UTF8.self)
  }

  // MARK: Limits

  private static func processorSeconds() -> Double {
    var time = timespec()
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) * 1e-9
  }

  /// A clock that costs a few nanoseconds and moves every few milliseconds.
  private static func coarseMilliseconds() -> Int {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC_COARSE, &time)
    return time.tv_sec * 1000 + time.tv_nsec / 1_000_000
  }

  /// Counts work: one step, or as many as the size of what is made asks for.
  func charge(_ count: Int = 1, at location: SourceLocation) throws(TemplateError) {
    steps += max(0, min(count, limits.steps)) + 1
    if steps > limits.steps { throw TemplateError("the template takes more than \(limits.steps) steps", at: location) }
    let look = Self.coarseMilliseconds()
    guard look - lastLook >= 20 else { return }
    lastLook = look
    if Self.processorSeconds() - startTime > limits.seconds {
      throw TemplateError("the template takes more than \(limits.seconds) seconds", at: location)
    }
  }

  /// Counts the bytes of a text that was made.
  func charge(bytes: Int, at location: SourceLocation) throws(TemplateError) {
    try charge(bytes: bytes, at: location, weight: bytes)
  }

  /// Counts a part of a growing text: the whole against the limit of bytes, the part against that of steps.
  func charge(bytes: Int, at location: SourceLocation, weight: Int) throws(TemplateError) {
    if bytes > limits.bytes { throw TemplateError("a text is longer than \(limits.bytes) bytes", at: location) }
    try charge(weight / 32, at: location)
  }

  /// Counts what comparing two values takes.
  func charge(comparing a: TemplateValue, _ b: TemplateValue, at location: SourceLocation) throws(TemplateError) {
    switch (a, b) {
    case (.string(let a), .string(let b)): try charge(min(a.utf8.count, b.utf8.count) / 32, at: location)
    case (.list(let a), .list(let b)), (.tuple(let a), .tuple(let b)):
      try charge(at: location)
      for (a, b) in zip(a, b) { try charge(comparing: a, b, at: location) }
    case (.dictionary(let a), .dictionary(let b)):
      guard a.count == b.count else { return }
      try charge(a.count, at: location)
      for (key, value) in zip(a.keys, a.values) {
        try charge(comparing: key, key, at: location)
        if let other = b[key] { try charge(comparing: value, other, at: location) }
      }
    default: break
    }
  }

  /// Python's `==`.
  func isEqual(_ a: TemplateValue, _ b: TemplateValue, at location: SourceLocation) throws(TemplateError) -> Bool {
    try charge(comparing: a.plain, b.plain, at: location)
    return a.isEqual(to: b)
  }

  func descend(at location: SourceLocation) throws(TemplateError) {
    depth += 1
    if depth > limits.depth { throw TemplateError("more than \(limits.depth) levels deep", at: location) }
  }

  func ascend() { depth -= 1 }

  private func makeScope(in outer: Scope) -> Scope { Scope(outer: outer) }

  func register(_ namespace: TemplateNamespace) { namespaces.append(namespace) }
  func register(_ loop: LoopState) { loops.append(loop) }

  // MARK: Output

  private func write(_ text: String, at location: SourceLocation) throws(TemplateError) {
    let last = outputs.count - 1
    if outputs[last].count + text.utf8.count > limits.bytes {
      throw TemplateError("the output is longer than \(limits.bytes) bytes", at: location)
    }
    outputs[last].append(contentsOf: text.utf8)
    try charge(text.utf8.count / 32, at: location)
  }

  private func write(_ value: TemplateValue, at location: SourceLocation) throws {
    let text = try text(value, at: location)
    guard isEscaping else { return try write(text, at: location) }
    if case .markup = value { try write(text, at: location) } else { try write(Filters.escaped(text), at: location) }
  }

  /// Python's `str`.
  func text(_ value: TemplateValue, at location: SourceLocation) throws -> String {
    switch value {
    case .undefined: ""
    case .string(let text), .markup(let text): text
    default: try Representation.text(of: value, self, at: location)
    }
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

  /// A text that the template wrote: where output is escaped, it is so already.
  private func written(_ text: String) -> TemplateValue { isEscaping ? .markup(text) : .string(text) }

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
    case .output(let expression): try write(evaluate(expression, scope), at: statement.location)
    case .condition(let branches, let otherwise):
      for branch in branches where try evaluate(branch.test, scope).isTrue {
        return try nested(branch.body, scope, statement)
      }
      return try nested(otherwise, scope, statement)
    case .loop(let loop): return try run(loop, over: nil, depth: 0, in: scope, at: statement.location)
    case .assign(let target, let value): try assign(evaluate(value, scope), to: target, scope, at: statement.location)
    case .breakLoop: return .breakLoop
    case .continueLoop: return .continueLoop
    default: return try runBlock(statement, in: scope)
    }
    return .next
  }

  private func nested(_ body: [Statement], _ scope: Scope, _ statement: Statement) throws -> Flow {
    try descend(at: statement.location)
    defer { ascend() }
    return try run(body, in: scope)
  }

  private func runBlock(_ statement: Statement, in scope: Scope) throws -> Flow {
    try descend(at: statement.location)
    defer { ascend() }
    switch statement.node {
    case .assignBlock(let target, let filters, let body):
      guard let value = try captured(body, filters, in: scope) else { return flowOfCapture }
      try assign(value, to: target, scope, at: statement.location)
    case .filterBlock(let filters, let body):
      guard let value = try captured(body, filters, in: scope) else { return flowOfCapture }
      // As in Jinja, only text can be written here.
      guard value.asString != nil else {
        throw TemplateError("the filter gives no str but a value of type \(value.typeName)", at: statement.location)
      }
      try write(value, at: statement.location)
    case .macro(let macro):
      scopes.append(scope)
      scope.variables[macro.name] = .function(makeMacro(macro, named: macro.name, in: scope))
    case .callBlock(let body, let call):
      scopes.append(scope)
      guard case .call(let callee, let arguments) = call.node else { return .next }
      let function = try evaluate(callee, scope)
      let caller = TemplateValue.function(makeMacro(body, named: nil, in: scope))
      let values = try evaluate(arguments, scope, caller: caller, at: call.location)
      let result = try self.call(function, values, at: call.location)
      guard result.asString != nil else {
        throw TemplateError("the call gives no str but a value of type \(result.typeName)", at: statement.location)
      }
      try write(result, at: statement.location)
    case .with(let assignments, let body):
      let inner = makeScope(in: scope)
      for (target, value) in assignments {
        try assign(evaluate(value, scope), to: target, inner, at: statement.location)
      }
      return try run(body, in: inner)
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
    case .block(let body, let isScoped):
      // A block sees the variables around a scoped block that it stands in, else those of the whole template.
      let outer = blockScope
      if isScoped { blockScope = scope }
      defer { blockScope = outer }
      _ = try run(body, in: makeScope(in: blockScope ?? root))
    case .autoescape(let value, let body):
      let outer = isEscaping
      isEscaping = try evaluate(value, scope).isTrue
      defer { isEscaping = outer }
      return try run(body, in: makeScope(in: scope))
    case .otherTemplate(let tag):
      throw TemplateError("'\(tag)' needs another template, and a chat template has none", at: statement.location)
    default: break
    }
    return .next
  }

  /// What a body writes, after filters; `nil` when `break` or `continue` leaves it.
  private func captured(_ body: [Statement], _ filters: [Statement.FilterCall], in scope: Scope) throws
    -> TemplateValue?
  {
    let inner = makeScope(in: scope)
    var flow = Flow.next
    let text = try capture { flow = try run(body, in: inner) }
    flowOfCapture = flow
    if flow != .next { return nil }
    var value = written(text)
    for filter in filters { value = try apply(filter, to: value, inner) }
    return value
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
      guard !attribute.hasPrefix("_") else {
        throw TemplateError("a namespace has no place for '\(attribute)': names must not start with '_'", at: location)
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
  func counted(_ value: TemplateValue, at location: SourceLocation) throws(TemplateError) -> TemplateValue {
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
        let items = value.held
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
  ) throws -> Flow {
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
    var recurse: ((TemplateValue, SourceLocation) throws -> TemplateValue)?
    if loop.isRecursive {
      recurse = { [unowned self] items, location in
        written(try capture { _ = try run(loop, over: items, depth: loopDepth + 1, in: scope, at: location) })
      }
    }
    let state = LoopState(items, depth: loopDepth, recurse: recurse)
    // As in Jinja, what stands after else also runs when no item's body came to its end.
    var isCompleted = false
    for (index, item) in items.enumerated() {
      state.index = index
      try charge(at: location)
      let inner = makeScope(in: scope)
      inner.variables["loop"] = .loop(state)
      try assign(item, to: loop.target, inner, at: location)
      let flow = try run(loop.body, in: inner)
      if flow == .next { isCompleted = true }
      if flow == .breakLoop { break }
    }
    if !isCompleted { return try run(loop.otherwise, in: makeScope(in: scope)) }
    return .next
  }

  /// A macro as a value; the body of a call has no name.
  private func makeMacro(_ macro: Statement.Macro, named name: String?, in scope: Scope) -> TemplateFunction {
    TemplateFunction(
      macro.name, representation: name == nil ? "<Macro anonymous>" : "<Macro '\(macro.name)'>",
      attributes: [
        "name": name.map { .string($0) } ?? .none, "arguments": .tuple(macro.parameters.map { .string($0.name) }),
        "catch_kwargs": .boolean(macro.usesNames.contains("kwargs")),
        "catch_varargs": .boolean(macro.usesNames.contains("varargs")),
        "caller": .boolean(macro.usesNames.contains("caller")),
      ]
    ) { interpreter, arguments, location in
      let inner = interpreter.makeScope(in: scope)
      try interpreter.descend(at: location)
      defer { interpreter.ascend() }
      try interpreter.bind(arguments, to: macro, inner, at: location)
      return interpreter.written(try interpreter.capture { _ = try interpreter.run(macro.body, in: inner) })
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
    if macro.usesNames.contains("caller"), !macro.parameters.contains(where: { $0.name == "caller" }) {
      let index = keyword.firstIndex { $0.name == "caller" }
      scope.variables["caller"] = index.map { keyword.remove(at: $0).value } ?? .undefined("no caller defined")
    }
    if macro.usesNames.contains("kwargs") {
      var extra = TemplateDictionary()
      for (name, value) in keyword { extra[name] = value }
      scope.variables["kwargs"] = try counted(.dictionary(extra), at: location)
    } else if let (name, _) = keyword.first {
      throw TemplateError("macro '\(macro.name)' takes no keyword argument '\(name)'", at: location)
    }
    if macro.usesNames.contains("varargs") {
      scope.variables["varargs"] = try counted(.tuple(Array(rest)), at: location)
    } else if !rest.isEmpty {
      throw TemplateError("macro '\(macro.name)' takes not more than \(macro.parameters.count) arguments", at: location)
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
      let value = try evaluate(value, scope)
      return try item(evaluate(key, scope), of: value, at: expression.location)
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
      let value = try evaluate(value, scope)
      return .boolean(
        try test(value, name, evaluate(arguments, scope, at: expression.location), at: expression.location))
    default: return try evaluateOperation(expression, scope)
    }
  }

  private static func value(_ constant: Expression.Constant) -> TemplateValue {
    switch constant {
    case .none: .none
    case .boolean(let value): .boolean(value)
    case .integer(let value): .integer(value)
    case .big(let value): .big(value)
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
      let left = try evaluate(left, scope)
      return try counted(
        Operators.apply(operation, left, evaluate(right, scope), self, at: location), at: location)
    case .concatenation(let parts): return try concatenation(parts, scope, at: location)
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

  private func concatenation(_ parts: [Expression], _ scope: Scope, at location: SourceLocation) throws
    -> TemplateValue
  {
    let values = try parts.map { try evaluate($0, scope) }
    var joined = ""
    // Escaped text makes its neighbours escaped too, but only where output is escaped.
    let isMarkup = isEscaping && values.contains { if case .markup = $0 { true } else { false } }
    for value in values {
      var part = try text(value, at: location)
      if isMarkup { if case .markup = value {} else { part = Filters.escaped(part) } }
      joined += part
      try charge(bytes: joined.utf8.count, at: location, weight: part.utf8.count)
    }
    return isMarkup ? .markup(joined) : .string(joined)
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
    case .object(let object): return try object.call(self, arguments, location)
    case .loop(let loop):
      guard let recurse = loop.recurse else { throw TemplateError("the loop is not recursive", at: location) }
      return try recurse(arguments.positional(1...1, of: "loop()", at: location)[0], location)
    case .undefined(let reason): throw TemplateError(reason, at: location)
    default: throw TemplateError("a value of type \(callee.typeName) cannot be called", at: location)
    }
  }

  private func evaluate(
    _ arguments: Expression.Arguments, _ scope: Scope, caller: TemplateValue? = nil, at location: SourceLocation
  ) throws -> CallArguments {
    var values = CallArguments()
    for argument in arguments.positional { values.positional.append(try evaluate(argument, scope)) }
    for (name, argument) in arguments.keyword { values.keyword.append((name, try evaluate(argument, scope))) }
    if let caller { values.keyword.append(("caller", caller)) }
    if let list = arguments.list { values.positional += try elements(of: evaluate(list, scope), at: location) }
    if let dictionary = arguments.dictionary {
      guard case .dictionary(let items) = try evaluate(dictionary, scope) else {
        throw TemplateError("the argument after '**' must be a dictionary", at: location)
      }
      for (key, value) in zip(items.keys, items.values) {
        guard case .string(let name) = key, !values.keyword.contains(where: { PythonText.isSame($0.name, name) }) else {
          throw TemplateError("the names of arguments must be texts that differ", at: location)
        }
        values.keyword.append((name, value))
      }
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
    guard let (test, count) = ValueTests.named(name) else {
      throw TemplateError("there is no test named '\(name)'", at: location)
    }
    let values = arguments.positional + arguments.keyword.map(\.value)
    guard values.count == count else {
      throw TemplateError("the test '\(name)' takes \(count) arguments, got \(values.count)", at: location)
    }
    return try test(self, value, values, location)
  }

  // MARK: Parts of values

  /// What a loop goes over.
  func elements(of value: TemplateValue, at location: SourceLocation) throws -> [TemplateValue] {
    switch value {
    case .list(let values), .tuple(let values):
      try charge(values.count / 16, at: location)
      return values
    case .dictionary(let values): return values.keys
    case .string(let text):
      try charge(text.utf8.count, at: location)
      return text.unicodeScalars.map { .string(String($0)) }
    case .markup(let text):
      try charge(text.utf8.count, at: location)
      return text.unicodeScalars.map { .string(String($0)) }
    case .object(let object): return try object.elements(self, location)
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
    case .object(let object):
      return object.attribute(name) ?? .undefined("'\(value.typeName) object' has no attribute '\(name)'")
    case .function(let function):
      return function.attributes[name] ?? .undefined("'\(function.name)' has no attribute '\(name)'")
    case .dictionary(let items):
      if let method = Methods.named(name, of: value) { return .function(method) }
      if Methods.changes(name, value) { return .undefined("a template cannot change its values ('\(name)')") }
      return items[name] ?? .undefined("'dict object' has no attribute '\(name)'")
    case .boolean, .integer, .big, .float:
      if let number = Methods.numberAttribute(name, of: value) { return number }
      if let method = Methods.named(name, of: value) { return .function(method) }
      return .undefined("'\(value.typeName) object' has no attribute '\(name)'")
    default:
      if let method = Methods.named(name, of: value) { return .function(method) }
      if Methods.changes(name, value) { return .undefined("a template cannot change its values ('\(name)')") }
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
      try charge(comparing: key, key, at: location)
      if let item = items[key] { return item }
    case .list(let values), .tuple(let values):
      if let index = key.asInteger {
        let place = index < 0 ? index.addingReportingOverflow(values.count).partialValue : index
        if values.indices.contains(place) { return values[place] }
        return .undefined("'\(value.typeName) object' has no element \(index)")
      }
    case .object(let object):
      if let item = object.item(key) { return item }
    case .string(let text), .markup(let text):
      if let index = key.asInteger {
        try charge(text.utf8.count / 64, at: location)
        let scalars = text.unicodeScalars
        let count = scalars.count
        let place = index < 0 ? index.addingReportingOverflow(count).partialValue : index
        guard place >= 0, place < count else { return .undefined("'str object' has no element \(index)") }
        let character = String(scalars[scalars.index(scalars.startIndex, offsetBy: place)])
        if case .markup = value { return .markup(character) }
        return .string(character)
      }
    default: break
    }
    if case .string(let name) = key.plain { return try attribute(name, of: value, at: location) }
    return .undefined("'\(value.typeName) object' has no such element")
  }
}
