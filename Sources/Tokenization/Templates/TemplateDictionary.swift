/// Keys and values in the order in which the keys came.
struct TemplateDictionary {
  private(set) var keys: [TemplateValue] = []
  private(set) var values: [TemplateValue] = []
  /// Where each key lies; filled only once there are many.
  private var places: [Key: Int] = [:]

  private enum Key: Hashable {
    case none
    case number(Double)
    case integer(Int)
    case big(String)
    case undefined
    case identity(ObjectIdentifier)
    case string([UInt8])
    case tuple([Key])

    /// `nil` for what cannot be a key.
    init?(_ value: TemplateValue) {
      switch value {
      case .none: self = .none
      case .boolean(let value): self = .integer(value ? 1 : 0)
      case .integer(let value): self = .integer(value)
      case .float(let value):
        if let integer = Int(exactly: value) { self = .integer(integer) } else { self = .number(value) }
      case .big(let value): self = .big(value.magnitude(radix: 32) + (value.isNegative ? "-" : ""))
      case .undefined: self = .undefined
      case .string(let value), .markup(let value): self = .string(Array(value.utf8))
      case .tuple(let values):
        var keys: [Key] = []
        for value in values {
          guard let key = Key(value) else { return nil }
          keys.append(key)
        }
        self = .tuple(keys)
      case .function(let value): self = .identity(ObjectIdentifier(value))
      case .namespace(let value): self = .identity(ObjectIdentifier(value))
      case .loop(let value): self = .identity(ObjectIdentifier(value))
      case .object(let value):
        switch value.hash {
        case .refused: return nil
        case .identity: self = .identity(ObjectIdentifier(value))
        case .value(let value):
          guard let key = Key(value) else { return nil }
          self = key
        }
      case .list, .dictionary: return nil
      }
    }
  }

  private static let smallCount = 8

  init() {}

  var count: Int { keys.count }

  private func index(of key: TemplateValue) -> Int? {
    if places.isEmpty { return keys.firstIndex { $0.isEqual(to: key) } }
    return Key(key).flatMap { places[$0] }
  }

  /// Whether a value can be a key.
  static func canBeKey(_ value: TemplateValue) -> Bool { Key(value) != nil }

  subscript(_ key: TemplateValue) -> TemplateValue? {
    get { index(of: key).map { values[$0] } }
    set {
      guard let newValue, Self.canBeKey(key) else { return }
      if let index = index(of: key) {
        values[index] = newValue
        return
      }
      keys.append(key)
      values.append(newValue)
      if !places.isEmpty {
        if let key = Key(key) { places[key] = keys.count - 1 }
      } else if keys.count > Self.smallCount {
        for (index, key) in keys.enumerated() { if let key = Key(key) { places[key] = index } }
      }
    }
  }

  subscript(_ key: String) -> TemplateValue? {
    get { self[.string(key)] }
    set { self[.string(key)] = newValue }
  }
}
