/// What `loop` is inside of a loop.
final class LoopState {
  let items: [TemplateValue]
  let depth: Int
  var index = 0
  /// What `changed` was last called with.
  private var changedValues: [TemplateValue]?
  /// Runs the loop's body over other items, for a recursive loop.
  let recurse: ((_ items: TemplateValue, _ location: SourceLocation) throws -> TemplateValue)?

  init(
    _ items: [TemplateValue], depth: Int,
    recurse: ((_ items: TemplateValue, _ location: SourceLocation) throws -> TemplateValue)?
  ) {
    self.items = items
    self.depth = depth
    self.recurse = recurse
  }

  /// The values that it keeps alive.
  var held: [TemplateValue] { items + (changedValues ?? []) }

  /// Lets go of what may hold the loop itself.
  func forget() { changedValues = nil }

  func attribute(_ name: String) -> TemplateValue? {
    switch name {
    case "index": .integer(index + 1)
    case "index0": .integer(index)
    case "revindex": .integer(items.count - index)
    case "revindex0": .integer(items.count - index - 1)
    case "first": .boolean(index == 0)
    case "last": .boolean(index == items.count - 1)
    case "length": .integer(items.count)
    case "depth": .integer(depth + 1)
    case "depth0": .integer(depth)
    case "previtem": index > 0 ? items[index - 1] : .undefined("there is no previous item")
    case "nextitem": index + 1 < items.count ? items[index + 1] : .undefined("there is no next item")
    case "cycle":
      .function(
        TemplateFunction("cycle", holding: [.loop(self)]) { [self] _, arguments, location in
          let values = try arguments.positional(0...Int.max, of: "cycle", at: location)
          guard !values.isEmpty else { throw TemplateError("no items for cycling given", at: location) }
          return values[index % values.count]
        })
    case "changed":
      .function(
        TemplateFunction("changed", holding: [.loop(self)]) { [self] interpreter, arguments, location in
          let values = try arguments.positional(0...Int.max, of: "changed", at: location)
          _ = try interpreter.counted(.tuple(values), at: location)
          if let last = changedValues {
            guard try !interpreter.isEqual(.tuple(last), .tuple(values), at: location) else { return .boolean(false) }
          }
          if changedValues == nil { interpreter.register(self) }
          changedValues = values
          return .boolean(true)
        })
    default: nil
    }
  }
}
