extension Tool {
  /// What `words`, the command line without the tool's own name, asks for.
  ///
  /// Dashes and underscores in option names are alike. A value follows its option as the next word or after `=`.
  /// After `--` every word is a positional argument.
  public func parse(_ words: [String]) throws(CommandLineError) -> Request {
    guard let first = words.first else { return .print(help) }
    switch first {
    case "--help", "-h": return .print(help)
    case "--version", "-V": return .print("\(name) \(version)")
    case "help":
      guard words.count > 1 else { return .print(help) }
      return .print(help(for: try command(named: words[1])))
    default: break
    }
    guard !first.hasPrefix("-") else {
      throw CommandLineError("unknown option \(first); a command comes first (see \(name) --help)")
    }
    let command = try command(named: first)
    var parser = CommandParser(tool: name, command: command, words: words.dropFirst())
    guard let arguments = try parser.parse() else { return .print(help(for: command)) }
    return .run(command: command.name, arguments)
  }

  private func command(named word: String) throws(CommandLineError) -> Command {
    if let command = commands.first(where: { $0.name == word.lowercased() }) { return command }
    if let near = nearestWord(to: word, in: commands.map(\.name)) {
      throw CommandLineError("unknown command \(word); did you mean \(near)?")
    }
    throw CommandLineError("unknown command \(word) (see \(name) --help)")
  }
}

/// Reads the words of one command.
private struct CommandParser {
  let tool: String
  let command: Command
  var words: ArraySlice<String>
  var parsed = ParsedArguments()
  var positional: [String] = []

  /// The values; nil when the words ask for help.
  mutating func parse() throws(CommandLineError) -> ParsedArguments? {
    while let word = words.popFirst() {
      if word == "--" {
        positional += words
        break
      }
      // A lone dash is the name that tools use for standard input.
      guard word.hasPrefix("-"), word.count > 1, Double(word) == nil else {
        positional.append(word)
        continue
      }
      if word == "--help" || word == "-h" { return nil }
      try parseOption(word)
    }
    try assignPositional()
    return parsed
  }

  private mutating func parseOption(_ word: String) throws(CommandLineError) {
    let parts = word.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
    let attached = parts.count > 1 ? parts[1] : nil
    guard let (option, negated) = resolve(parts[0]) else { throw unknown(parts[0]) }
    let shown = "--" + option.name

    if case .flag = option.arity {
      guard let attached else { return append(negated ? "false" : "true", to: option) }
      guard let on = truth(attached) else {
        throw CommandLineError("\(shown): \"\(attached)\" is not true or false")
      }
      return append(on != negated ? "true" : "false", to: option)
    }

    // A word that is itself an option of this command is a forgotten value, not a value.
    guard let value = attached ?? (words.first.flatMap { isOption($0) ? nil : $0 }) else {
      throw CommandLineError("\(shown) needs a value: \(shown) \(option.placeholder)")
    }
    if attached == nil { words.removeFirst() }
    if let problem = option.problem(value) { throw CommandLineError("\(shown): \(problem)") }
    append(value, to: option)
  }

  private mutating func append(_ value: String, to option: OptionDeclaration) {
    parsed.options[option.name, default: []].append(value)
  }

  private func isOption(_ word: String) -> Bool {
    guard word.hasPrefix("-"), word.count > 1 else { return false }
    let name = word.prefix { $0 != "=" }
    return word == "--" || word == "--help" || resolve(String(name)) != nil
  }

  /// The option that `word`, dashes in front included, names, and whether it is its `--no-` form.
  private func resolve(_ word: String) -> (OptionDeclaration, negated: Bool)? {
    let isLong = word.hasPrefix("--")
    let name = String(word.drop { $0 == "-" }.map { $0 == "_" ? "-" : $0 })
    guard isLong || name.count == 1 else { return nil }
    if let option = command.options.first(where: { $0.name == name || $0.aliases.contains(name) }) {
      return (option, false)
    }
    guard name.hasPrefix("no-") else { return nil }
    let positive = String(name.dropFirst(3))
    let option = command.options.first {
      $0.arity == .flag(negatable: true) && ($0.name == positive || $0.aliases.contains(positive))
    }
    return option.map { ($0, true) }
  }

  private func unknown(_ word: String) -> CommandLineError {
    let name = String(word.drop { $0 == "-" }.map { $0 == "_" ? "-" : $0 })
    let candidates = command.options.flatMap { option in
      let names = [option.name] + option.aliases.filter { $0.count > 1 }
      return option.arity == .flag(negatable: true) ? names + names.map { "no-" + $0 } : names
    }
    if let near = nearestWord(to: name, in: candidates + ["help"]) {
      return CommandLineError("unknown option \(word) of \(command.name); did you mean --\(near)?")
    }
    return CommandLineError("unknown option \(word) of \(command.name) (see \(tool) \(command.name) --help)")
  }

  private mutating func assignPositional() throws(CommandLineError) {
    for (declaration, value) in zip(command.arguments, positional) { parsed.arguments[declaration.name] = value }
    if let last = command.arguments.last, last.isRepeated, positional.count >= command.arguments.count {
      parsed.options[last.name] = Array(positional[(command.arguments.count - 1)...])
    } else if positional.count > command.arguments.count {
      let extra = positional[command.arguments.count]
      throw CommandLineError("unexpected argument \"\(extra)\" (see \(tool) \(command.name) --help)")
    }
    if let missing = command.arguments.dropFirst(positional.count).first(where: \.isRequired) {
      throw CommandLineError("\(missing.name) is missing (usage: \(usage(tool: tool, command)))")
    }
  }
}

private func truth(_ text: String) -> Bool? {
  switch text.lowercased() {
  case "true", "yes", "on", "1": true
  case "false", "no", "off", "0": false
  default: nil
  }
}
