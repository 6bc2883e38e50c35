extension Tool {
  /// The help of the tool: its commands.
  public var help: String {
    var text = "\(summary)\n\nUsage: \(name) COMMAND ...\n\nCommands:\n"
    text += table(commands.map { ($0.name, $0.summary) })
    text += "\n\(name) COMMAND --help shows a command's options; \(name) --version the version.\n"
    return text
  }

  /// The help of one command, from its declarations.
  public func help(for command: Command) -> String {
    var text = "\(command.summary)\n\nUsage: \(usage(tool: name, command))\n"
    if !command.arguments.isEmpty {
      text += "\nArguments:\n" + table(command.arguments.map { ($0.name, $0.help) })
    }
    var groups: [String] = []
    for option in command.options where !groups.contains(option.group ?? "Options") {
      groups.append(option.group ?? "Options")
    }
    for group in groups {
      let options = command.options.filter { ($0.group ?? "Options") == group }
      text += "\n\(group):\n" + table(options.map { (left($0), right($0)) })
    }
    if !command.examples.isEmpty {
      text += "\nExamples:\n" + command.examples.map { "  \(name) \(command.name) \($0)\n" }.joined()
    }
    return text
  }

  private func left(_ option: OptionDeclaration) -> String {
    var text = option.arity == .flag(negatable: true) ? "--[no-]\(option.name)" : "--\(option.name)"
    if !option.placeholder.isEmpty { text += " \(option.placeholder)" }
    return text
  }

  private func right(_ option: OptionDeclaration) -> String {
    var text = option.help
    if let value = option.defaultText, !value.isEmpty { text += " [\(value)]" }
    if !option.aliases.isEmpty {
      text += " Also " + option.aliases.map { ($0.count == 1 ? "-" : "--") + $0 }.joined(separator: ", ") + "."
    }
    return text
  }
}

func usage(tool: String, _ command: Command) -> String {
  let arguments = command.arguments.map { argument in
    (argument.isRequired ? argument.name : "[\(argument.name)]") + (argument.isRepeated ? "..." : "")
  }
  return ([tool, command.name] + arguments + (command.options.isEmpty ? [] : ["[options]"])).joined(separator: " ")
}

/// Two columns, the right one wrapped at 100 characters.
private func table(_ rows: [(left: String, right: String)]) -> String {
  let widest = rows.map(\.left.count).filter { $0 <= 30 }.max() ?? 0
  let indent = widest + 4
  var text = ""
  for row in rows {
    var line = "  " + row.left
    if row.left.count > widest {
      text += line + "\n"
      line = ""
    }
    line += String(repeating: " ", count: max(0, indent - line.count))
    var isEmpty = true
    for word in row.right.split(separator: " ") {
      if !isEmpty, line.count + 1 + word.count > 100 {
        text += line + "\n"
        line = String(repeating: " ", count: indent)
        isEmpty = true
      }
      line += isEmpty ? word : " " + word
      isEmpty = false
    }
    text += line + "\n"
  }
  return text
}
