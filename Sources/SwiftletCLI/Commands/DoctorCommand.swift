import CommandLineParsing
import Doctor
import JSONValues
import Swiftlet

/// `swiftlet doctor`: finds and repairs defects of a model's tokenizer, special tokens and template.
enum DoctorCommand: RunnableCommand {
  private static let fix = Option(flag: "fix", "Write a repaired model to --output; the model itself stays as it is.")
  private static let output = Option<String?>(
    "output", aliases: ["output-dir", "o"], "DIR", "Folder for the repaired model: a new one, or an empty one.")

  private static let data = Option(
    repeated: "data", aliases: ["dataset", "train-data"], "FILE",
    "Training data to look at with the model's template; may be given several times.")

  static let command = Command(
    name: "doctor", summary: "Find and repair defects of a model's tokenizer, ids and chat template.",
    examples: ["model/", "model/ --fix --output repaired", "model.gguf --json"],
    arguments: [ModelOptions.model.declaration],
    options: [fix.declaration, output.declaration, data.declaration, JSONOption.json.declaration])

  static func run(_ arguments: ParsedArguments) throws {
    let target = arguments[output]
    guard arguments[fix] == (target != nil), target?.isEmpty != true else {
      throw InputFailure(
        arguments[fix] ? "--output is missing; name a folder for the repaired model" : "--output goes with --fix")
    }
    let examination = try readingInput { try Examination(of: ModelOptions.path(arguments[ModelOptions.model])) }
    let ofData =
      arguments[data].isEmpty ? [] : try readingInput { try examination.findings(inData: arguments[data]) }
    var remaining: Examination?
    var written: String?
    if let target {
      try readingInput { try examination.requireUsable(output: target) }
      let place = try examination.repair(into: target)
      written = place
      remaining = try Examination(of: place)
    }
    if arguments[JSONOption.json] {
      var object: JSONObject = ["findings": json(examination.findings + ofData)]
      object["output"] = written.map { .string($0) }
      object["remaining"] = (remaining?.findings).map(json)
      try StandardOutput.write(JSONValue.object(object).serialized() + "\n")
    } else {
      try StandardOutput.write(DoctorReport(examination, ofData, repaired: remaining, at: written).text)
    }
    let isDataSound = !ofData.contains { $0.severity == .error }
    if !(remaining ?? examination).isSound || !isDataSound { throw DefectsFound() }
  }

  private static func json(_ findings: [Finding]) -> JSONValue {
    .array(
      findings.map { finding in
        [
          "id": .string(finding.id), "severity": .string(finding.severity.rawValue),
          "message": .string(finding.message), "evidence": .string(finding.evidence),
          "repair": .string(finding.repair),
        ]
      })
  }
}

/// What a person reads: findings by severity, and what to do next.
private struct DoctorReport {
  private(set) var text = ""
  private static let columns = 100

  init(_ examination: Examination, _ more: [Finding], repaired: Examination?, at output: String?) {
    let all = examination.findings + more
    for severity in Severity.allCases.sorted() {
      let findings = all.filter { $0.severity == severity }
      guard !findings.isEmpty else { continue }
      text += "\(severity.rawValue.uppercased())\(findings.count == 1 ? "" : "S")\n"
      for finding in findings {
        text += "\n  \(finding.id)\n"
        add("", finding.message)
        add("seen", finding.evidence)
        add("repair", finding.repair)
      }
      text += "\n"
    }
    if all.isEmpty { text += "nothing found: tokenizer, ids and chat template agree\n" }
    if let repaired, let output {
      let left = repaired.findings.filter { $0.severity != .note }.map(\.id)
      text += "\(output) holds the repaired model"
      text += left.isEmpty ? "\n" : "; what no file can mend remains: \(left.joined(separator: ", "))\n"
    } else if examination.findings.contains(where: { $0.isRepairable && $0.severity != .note }) {
      let counts = Severity.allCases.sorted().compactMap { severity in
        let count = all.count { $0.severity == severity }
        return count == 0 ? nil : "\(count) \(severity.rawValue)\(count == 1 ? "" : "s")"
      }
      let isFile = examination.path.hasSuffix(".gguf")
      var name = isFile ? String(examination.path.dropLast(5)) : examination.path
      while name.count > 1, name.hasSuffix("/") { name.removeLast() }
      text += "\(counts.joined(separator: ", ")); to repair:\n\n"
      text += "  swiftlet doctor \(quoted(examination.path)) --fix --output \(quoted(name + "-repaired"))\n"
    }
  }

  /// A word as shells take it.
  private func quoted(_ word: String) -> String {
    word.allSatisfy { $0.isLetter || $0.isNumber || "/._-+=:,@".contains($0) }
      ? word : "'" + word.split(separator: "'", omittingEmptySubsequences: false).joined(separator: "'\\''") + "'"
  }

  /// A paragraph, its label at the left.
  private mutating func add(_ label: String, _ paragraph: String) {
    let indent = label.isEmpty ? "    " : "            "
    var line = label.isEmpty ? indent : "    " + label + String(repeating: " ", count: 8 - label.count)
    var isEmpty = true
    for word in paragraph.split(separator: " ") {
      if !isEmpty, line.count + 1 + word.count > Self.columns {
        text += line + "\n"
        line = indent
        isEmpty = true
      }
      line += (isEmpty ? "" : " ") + word
      isEmpty = false
    }
    text += line + "\n"
  }
}
