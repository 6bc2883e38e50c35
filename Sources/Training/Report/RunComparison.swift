import Glibc
import JSONValues

/// Runs side by side: a table, what sets them apart, and one chart.
public struct RunComparison: Sendable {
  /// A run as it is compared.
  public struct Run: Sendable {
    /// What it is called.
    public var name: String
    /// Its metrics.
    public var points: [MetricsLine]
    /// Its settings.
    public var settings: [(name: String, value: String)]
    /// When it was last written, in seconds since 1970.
    public var modified: Double

    /// A run to compare.
    public init(name: String, points: [MetricsLine], settings: [(name: String, value: String)], modified: Double) {
      self.name = name
      self.points = points
      self.settings = settings
      self.modified = modified
    }

    /// Steps done.
    public var steps: Int { points.last?.step ?? 0 }
    /// The smoothed losses by step.
    public var losses: [(x: Double, y: Double)] {
      var smoothed = SmoothedSeries()
      return points.compactMap { point in point.loss.map { (Double(point.step), smoothed.add($0)) } }
    }
    /// The held-out losses by step.
    public var evalLosses: [(x: Double, y: Double)] {
      points.compactMap { point in point.evalLoss.map { (Double(point.step), $0) } }
    }
    /// The smoothed loss at the end.
    public var lastLoss: Double? { losses.last?.y }
    /// The lowest held-out loss.
    public var bestEvalLoss: Double? { points.compactMap(\.evalLoss).min() }
    /// The median of the speeds.
    public var tokensPerSecond: Double? {
      let speeds = points.compactMap(\.tokensPerSecond).sorted()
      return speeds.isEmpty ? nil : speeds[speeds.count / 2]
    }
    /// The value of a setting.
    public func setting(_ name: String) -> String? { settings.first { $0.name == name }?.value }
  }

  /// The runs.
  public var runs: [Run]

  /// Compares runs.
  public init(_ runs: [Run]) { self.runs = runs }

  /// What a run's folder or its files are called says nothing about it.
  private static let places: Set<String> = ["output", "resume", "config"]

  /// Settings that are not the same in all runs, with each run's value.
  public var differences: [(name: String, values: [String])] {
    var names: [String] = []
    for setting in runs.flatMap(\.settings) where !names.contains(setting.name) { names.append(setting.name) }
    return names.filter { !Self.places.contains($0) }.compactMap { name in
      let values = runs.map { $0.setting(name) ?? "–" }
      return Set(values).count > 1 ? (name, values) : nil
    }
  }

  /// The comparison as a page that needs nothing but itself.
  public var html: String {
    func row(_ cells: [String], _ tag: String = "td") -> String {
      "<tr>"
        + cells.enumerated().map { index, cell in
          let tag = index == 0 ? "th" : tag
          return "<\(tag)>\(escapedHTML(cell))</\(tag)>"
        }.joined() + "</tr>"
    }
    var body = "<h1>\(runs.count) runs</h1>\n<div class=\"charts\">\n"
    func chart(_ title: String, _ points: (Run) -> [(x: Double, y: Double)], marks: Bool) -> String {
      LineChart(
        title: title,
        series: runs.enumerated().map { index, run in
          .init(name: run.name, style: "c\(index % 6)", points: points(run), hasMarks: marks)
        }
      ).figure
    }
    body += chart("Loss, smoothed", \.losses, marks: false) + chart("Held-out loss", \.evalLosses, marks: true)
    body += "</div>\n<h2>Runs</h2>\n<div class=\"card\"><table>"
    body += row(["", "steps", "loss", "held out", "tokens/s"], "th")
    for run in runs {
      let cells = [run.lastLoss, run.bestEvalLoss, run.tokensPerSecond].map { $0.map(LineChart.number) ?? "–" }
      body += row([run.name, "\(run.steps)"] + cells)
    }
    body += "</table></div>\n"
    let differences = differences
    if !differences.isEmpty {
      body += "<h2>What sets them apart</h2>\n<div class=\"card\"><table>" + row([""] + runs.map(\.name), "th")
      for (name, values) in differences { body += row([name] + values) }
      body += "</table></div>\n"
    }
    return ReportStyle.page(title: "\(runs.count) runs · Swiftlet", body: body)
  }
}
