import CommandLineParsing
import Glibc
import JSONValues
import ModelFiles
import Swiftlet
import Training

/// `swiftlet runs`: lists runs, and compares them in a table and a chart.
enum RunsCommand: RunnableCommand {
  private static let folders = ArgumentDeclaration(
    name: "FOLDER", help: "A run, or a folder with runs; this folder when not given.", isRequired: false,
    isRepeated: true)
  private static let heldOut = Option(flag: "held-out", aliases: ["eval"], "Chart the held-out loss.")
  private static let html = Option<String?>("html", "FILE", "Write the comparison as a page with charts.")

  static let command = Command(
    name: "runs", summary: "List runs and compare them.",
    examples: ["", "runs/", "run-a run-b --html comparison.html"],
    arguments: [folders],
    options: [heldOut.declaration, html.declaration, JSONOption.json.declaration])

  static func run(_ arguments: ParsedArguments) throws {
    let paths = arguments.texts(of: folders.name) ?? ["."]
    let runs = try readingInput { try RunFinder.runs(in: paths) }
    if let file = arguments[html] {
      guard !runs.isEmpty else { throw InputFailure("\(paths.joined(separator: ", ")): no run to show") }
      try writeAtomically(RunComparison(runs).html, to: file)
    }
    if arguments[JSONOption.json] {
      return try StandardOutput.write(JSONValue.array(runs.map(value)).serialized() + "\n")
    }
    guard !runs.isEmpty else {
      return StandardError.write("swiftlet: no runs in \(paths.joined(separator: ", "))\n")
    }
    try StandardOutput.write(text(RunComparison(runs), heldOut: arguments[heldOut]))
  }

  private static func value(_ run: RunComparison.Run) -> JSONValue {
    var object: JSONObject = ["run": .string(run.name), "steps": .integer(run.steps)]
    object["loss"] = run.lastLoss.map { .number($0) }
    object["best_eval_loss"] = run.bestEvalLoss.map { .number($0) }
    object["tokens_per_second"] = run.tokensPerSecond.map { .number($0) }
    object["modified"] = .number(run.modified)
    object["settings"] = .object(JSONObject(run.settings.map { ($0.name, .string($0.value)) }))
    return .object(object)
  }

  /// Table, differences and chart.
  static func text(_ comparison: RunComparison, heldOut: Bool) -> String {
    let runs = comparison.runs
    let letters = runs.indices.map { index in
      index < 26 ? Character(UnicodeScalar(UInt8(65 + index))) : "*"
    }
    func number(_ value: Double?) -> String { value.map { Formatting.fixed($0, 4) } ?? "–" }
    var rows = [["", "run", "steps", "loss", "held out", "tokens/s", "rate", "rank", "batch", "last change"]]
    for (letter, run) in zip(letters, runs) {
      rows.append([
        String(letter), run.name, "\(run.steps)", number(run.lastLoss), number(run.bestEvalLoss),
        run.tokensPerSecond.map { Formatting.count($0) } ?? "–", run.setting("learning-rate") ?? "–",
        run.setting("lora-rank") ?? "–",
        [run.setting("batch-size"), run.setting("gradient-accumulation")].compactMap { $0 }.joined(separator: "×"),
        time(run.modified),
      ])
    }
    var text = TextTable(rows).text
    guard runs.count > 1 else { return text }
    let differences = comparison.differences
    if !differences.isEmpty {
      text += "\n" + TextTable([[""] + letters.map { String($0) }] + differences.map { [$0.name] + $0.values }).text
    }
    let hasEvaluations = heldOut && runs.contains { !$0.evalLosses.isEmpty }
    let chart = TextChart(
      series: zip(letters, runs).map { .init(letter: $0, points: hasEvaluations ? $1.evalLosses : $1.losses) },
      isColoured: SampleText.isColoured(isTerminal: StandardOutput.isTerminal)
    ).text
    if !chart.isEmpty { text += "\n\(hasEvaluations ? "held-out loss" : "loss, smoothed") by step\n" + chart }
    return text
  }

  private static func time(_ seconds: Double) -> String {
    var moment = time_t(seconds)
    var parts = tm()
    guard seconds > 0, localtime_r(&moment, &parts) != nil else { return "–" }
    func two(_ value: Int32) -> String { value < 10 ? "0\(value)" : "\(value)" }
    return
      "\(parts.tm_year + 1900)-\(two(parts.tm_mon + 1))-\(two(parts.tm_mday)) \(two(parts.tm_hour)):\(two(parts.tm_min))"
  }
}

/// Rows of cells below each other; the first column and the second are at the left, figures at the right.
struct TextTable {
  private let rows: [[String]]

  init(_ rows: [[String]]) { self.rows = rows }

  /// The table, a line for each row; long cells are shortened in their middle.
  var text: String {
    let shown = rows.map { row in row.map { $0.count > 40 ? $0.prefix(18) + "…" + $0.suffix(21) : $0[...] } }
    let count = shown.map(\.count).max() ?? 0
    let widths = (0..<count).map { column in shown.map { column < $0.count ? $0[column].count : 0 }.max() ?? 0 }
    return shown.map { row in
      let line = row.enumerated().map { column, cell -> String in
        let space = String(repeating: " ", count: widths[column] - cell.count)
        return column < 2 ? cell + space : space + cell
      }.joined(separator: "  ")
      return String(line.reversed().drop { $0 == " " }.reversed()) + "\n"
    }.joined()
  }
}
