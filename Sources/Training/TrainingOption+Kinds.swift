// How each kind of option reads its text: one constructor per Swift type of the stored property.

typealias Path<Value> = WritableKeyPath<TrainingConfiguration, Value> & Sendable

extension TrainingOption {
  static func flag(_ name: String, _ group: Group, _ path: Path<Bool>, aliases: [String] = [], _ help: String) -> Self {
    Self(
      name: name, aliases: aliases, group: group, kind: .flag, placeholder: "", help: help, isPositional: false,
      assign: { configuration, texts throws(TrainingConfigurationError) in
        switch (texts.last ?? "").lowercased() {
        case "true", "yes", "on", "1": configuration[keyPath: path] = true
        case "false", "no", "off", "0": configuration[keyPath: path] = false
        default: throw notRead(name, texts, "true or false")
        }
      },
      read: { .flag($0[keyPath: path]) })
  }

  static func scalar<Number: LosslessStringConvertible & SendableMetatype>(
    _ name: String, _ group: Group, _ path: Path<Number>, _ kind: Kind, aliases: [String] = [], _ placeholder: String,
    _ help: String
  ) -> Self {
    one(name, group, Place(path), kind, aliases, placeholder, help, parse: Number.init, show: \.description)
  }

  /// An optional number; `none` and `null` unset it.
  static func scalar<Number: LosslessStringConvertible & SendableMetatype>(
    _ name: String, _ group: Group, _ path: Path<Number?>, _ kind: Kind, aliases: [String] = [], _ placeholder: String,
    _ help: String
  ) -> Self {
    one(name, group, Place(path), kind, aliases, placeholder, help, parse: Number.init, show: \.description)
  }

  static func byteCount(
    _ name: String, _ group: Group, _ path: Path<Int?>, aliases: [String] = [], _ placeholder: String, _ help: String
  ) -> Self {
    one(
      name, group, Place(path), .byteCount, aliases, placeholder, help, parse: { parseByteCount($0) },
      show: { formatByteCount($0) })
  }

  static func duration(
    _ name: String, _ group: Group, _ path: Path<Double?>, aliases: [String] = [], _ placeholder: String, _ help: String
  ) -> Self {
    one(
      name, group, Place(path), .duration, aliases, placeholder, help, parse: { parseDuration($0) },
      show: { "\($0)s" })
  }

  /// Where a value lies, and how it is unset where it may be missing.
  private struct Place<Value> {
    let get: @Sendable (TrainingConfiguration) -> Value?
    let set: @Sendable (inout TrainingConfiguration, Value) -> Void
    var unset: (@Sendable (inout TrainingConfiguration) -> Void)?

    init(_ path: Path<Value>) {
      get = { $0[keyPath: path] }
      set = { $0[keyPath: path] = $1 }
    }

    init(_ path: Path<Value?>) {
      get = { $0[keyPath: path] }
      set = { $0[keyPath: path] = $1 }
      unset = { $0[keyPath: path] = nil }
    }
  }

  /// An option of one value, written plainly.
  private static func one<Value>(
    _ name: String, _ group: Group, _ place: Place<Value>, _ kind: Kind, _ aliases: [String], _ placeholder: String,
    _ help: String, parse: @escaping @Sendable (String) -> Value?, show: @escaping @Sendable (Value) -> String
  ) -> Self {
    Self(
      name: name, aliases: aliases, group: group, kind: kind, placeholder: placeholder, help: help,
      isPositional: false,
      assign: { configuration, texts throws(TrainingConfigurationError) in
        if let unset = place.unset, ["none", "null", "~"].contains((texts.last ?? "").lowercased()) {
          return unset(&configuration)
        }
        guard let value = texts.last.flatMap(parse) else { throw notRead(name, texts, kind.noun) }
        place.set(&configuration, value)
      },
      read: { place.get($0).map { .plain(show($0)) } })
  }

  static func choice<Choice: RawRepresentable<String> & CaseIterable & SendableMetatype>(
    _ name: String, _ group: Group, _ path: Path<Choice>, aliases: [String] = [], _ help: String
  ) -> Self {
    let words = Choice.allCases.map(\.rawValue)
    return Self(
      name: name, aliases: aliases, group: group, kind: .choice(words), placeholder: words.joined(separator: "|"),
      help: help, isPositional: false,
      assign: { configuration, texts throws(TrainingConfigurationError) in
        guard let value = texts.last.flatMap({ Choice(rawValue: $0.lowercased()) }) else {
          throw notRead(name, texts, words.count == 1 ? words[0] : "one of " + words.joined(separator: ", "))
        }
        configuration[keyPath: path] = value
      },
      read: { .plain($0[keyPath: path].rawValue) })
  }

  static func text(
    _ name: String, _ group: Group, _ path: Path<String>, aliases: [String] = [], _ placeholder: String,
    _ help: String, isPositional: Bool = false
  ) -> Self {
    Self(
      name: name, aliases: aliases, group: group, kind: .text, placeholder: placeholder, help: help,
      isPositional: isPositional,
      assign: { configuration, texts throws(TrainingConfigurationError) in
        guard let value = texts.last else { throw notRead(name, texts, Kind.text.noun) }
        configuration[keyPath: path] = value
      },
      read: { .text($0[keyPath: path]) })
  }

  static func text(
    _ name: String, _ group: Group, _ path: Path<String?>, aliases: [String] = [], _ placeholder: String,
    _ help: String
  ) -> Self {
    Self(
      name: name, aliases: aliases, group: group, kind: .text, placeholder: placeholder, help: help,
      isPositional: false,
      assign: { configuration, texts throws(TrainingConfigurationError) in configuration[keyPath: path] = texts.last },
      read: { $0[keyPath: path].map { .text($0) } })
  }

  static func texts(
    _ name: String, _ group: Group, _ path: Path<[String]>, aliases: [String] = [], _ placeholder: String,
    _ help: String
  ) -> Self {
    Self(
      name: name, aliases: aliases, group: group, kind: .texts, placeholder: placeholder, help: help,
      isPositional: false,
      assign: { configuration, texts throws(TrainingConfigurationError) in configuration[keyPath: path] = texts },
      read: { .texts($0[keyPath: path]) })
  }

  static func words(
    _ name: String, _ group: Group, _ path: Path<[String]>, aliases: [String] = [], _ placeholder: String,
    _ help: String
  ) -> Self {
    Self(
      name: name, aliases: aliases, group: group, kind: .words, placeholder: placeholder, help: help,
      isPositional: false,
      assign: { configuration, texts throws(TrainingConfigurationError) in
        configuration[keyPath: path] = texts.flatMap { text in
          text.split(whereSeparator: { $0 == "," || $0 == " " }).map(String.init)
        }
      },
      read: { .texts($0[keyPath: path]) })
  }
}

extension TrainingOption.Kind {
  /// What an error says was expected.
  public var noun: String {
    switch self {
    case .flag: "true or false"
    case .integer: "a whole number"
    case .number: "a number"
    case .byteCount: "a size such as 24GB or 512MiB"
    case .duration: "a time such as 90m or 1h30m"
    case .text: "a text"
    case .choice(let words): "one of " + words.joined(separator: ", ")
    case .texts, .words: "a list"
    }
  }
}

private func notRead(_ name: String, _ texts: [String], _ wanted: String) -> TrainingConfigurationError {
  guard let text = texts.last, !text.isEmpty else {
    return TrainingConfigurationError(option: name, reason: "needs \(wanted)")
  }
  return TrainingConfigurationError(option: name, reason: "\"\(text)\" is not \(wanted)")
}
