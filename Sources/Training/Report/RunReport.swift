import JSONValues

/// A run as one page: curves, data, answers over time, configuration.
public struct RunReport: Sendable {
  /// What the run is called.
  public var name: String
  /// Lines under the title: model, device, when.
  public var remarks: [String]
  /// Steps of the whole run.
  public var totalSteps: Int
  /// The metrics.
  public var points: [MetricsLine]
  /// Facts of the data, as `data.json` has them.
  public var data: JSONValue?
  /// The configuration, names and values.
  public var settings: [(name: String, value: String)]

  /// A report of a run.
  public init(
    name: String, remarks: [String], totalSteps: Int, points: [MetricsLine], data: JSONValue?,
    settings: [(name: String, value: String)]
  ) {
    self.name = name
    self.remarks = remarks
    self.totalSteps = totalSteps
    self.points = points
    self.data = data
    self.settings = settings
  }

  /// The page: HTML with its style and pictures inside, without scripts.
  public var html: String {
    var body = "<h1>\(escapedHTML(name))</h1>\n"
    for remark in remarks { body += "<p>\(escapedHTML(remark))</p>\n" }
    body += tiles + "<div class=\"charts\">\n\(charts)</div>\n" + dataSection + answers + configuration
    return ReportStyle.page(title: "\(name) · Swiftlet", body: body)
  }

  // MARK: Figures

  private var tiles: String {
    let trained = points.filter { $0.loss != nil }
    var smoothed = SmoothedSeries()
    for point in trained { _ = smoothed.add(point.loss ?? .nan) }
    let evals = points.compactMap(\.evalLoss)
    var tiles: [(String, String)] = [
      ("steps", "\(points.last?.step ?? 0) of \(totalSteps)"),
      ("loss, smoothed", smoothed.value.map(LineChart.number) ?? "–"),
    ]
    if let first = evals.first, let last = evals.last {
      tiles.append(("held out, first → last", "\(LineChart.number(first)) → \(LineChart.number(last))"))
    }
    if let tokens = trained.last?.tokens { tiles.append(("tokens", LineChart.number(Double(tokens)))) }
    let speeds = trained.compactMap(\.tokensPerSecond).sorted()
    if !speeds.isEmpty { tiles.append(("tokens/s, median", LineChart.number(speeds[speeds.count / 2]))) }
    if let memory = points.compactMap(\.memoryBytes).max() {
      tiles.append(("memory at most", Self.gibibytes(Double(memory))))
    }
    let skipped = points.count { $0.isSkipped }
    if skipped > 0 { tiles.append(("steps skipped", "\(skipped)")) }
    let spikes = points.count { $0.isSpike }
    if spikes > 0 { tiles.append(("spikes of the loss", "\(spikes)")) }
    return "<div class=\"tiles\">"
      + tiles.map { "<div class=\"tile\"><b>\(escapedHTML($0.1))</b><span>\(escapedHTML($0.0))</span></div>" }.joined()
      + "</div>\n"
  }

  private func series(_ value: (MetricsLine) -> Double?) -> [(x: Double, y: Double)] {
    points.compactMap { point in value(point).map { (Double(point.step), $0) } }
  }

  private var charts: String {
    var smoothed = SmoothedSeries()
    let losses = series(\.loss)
    let means = losses.map { (x: $0.x, y: smoothed.add($0.y)) }
    let charts = [
      LineChart(
        title: "Loss",
        series: [
          .init(name: "each step", style: "c0 faint", points: losses),
          .init(name: "smoothed", style: "c0", points: means),
          .init(name: "held out", style: "c1", points: series(\.evalLoss), hasMarks: true),
          .init(
            name: "spikes", style: "c5", points: series { $0.isSpike ? $0.loss : nil }, hasMarks: true, hasLine: false),
        ]),
      LineChart(
        title: "Learning rate", series: [.init(name: "", style: "c2", points: series(\.learningRate))]),
      LineChart(
        title: "Gradient norm", series: [.init(name: "", style: "c3", points: series(\.gradientNorm))],
        isLogarithmic: true),
      LineChart(
        title: "Better answers that are likelier",
        series: [.init(name: "", style: "c1", points: series(\.rewardAccuracy))]),
      LineChart(
        title: "Reward margin", series: [.init(name: "", style: "c2", points: series(\.rewardMargin))]),
      LineChart(
        title: "Tokens per second", series: [.init(name: "", style: "c4", points: series(\.tokensPerSecond))]),
      LineChart(
        title: "Memory in GiB",
        series: [.init(name: "", style: "c5", points: series { $0.memoryBytes.map { Double($0) / Double(1 << 30) } })]),
    ]
    return charts.map(\.figure).joined()
  }

  static func gibibytes(_ value: Double) -> String {
    value >= Double(1 << 30)
      ? LineChart.number(value / Double(1 << 30)) + " GiB"
      : LineChart.number((value / Double(1 << 20)).rounded()) + " MiB"
  }

  // MARK: Data

  private var dataSection: String {
    guard let data else { return "" }
    var rows: [(String, String)] = (data["files"]?.array ?? []).compactMap(\.string).map { ("file", $0) }
    func count(_ key: String) -> String? { data["counts"]?[key]?.integer.map { "\($0)" } }
    for (name, key) in [
      ("samples", "samples"), ("examples", "examples"), ("tokens", "tokens"), ("trained tokens", "trained_tokens"),
      ("cut to the limit", "truncated"), ("split", "split"), ("left out, too long", "too_long"),
      ("left out, cut before the answer", "cut_before_response"), ("left out, nothing to train on", "without_response"),
    ] {
      if let value = count(key), value != "0" { rows.append((name, value)) }
    }
    let lengths = data["lengths"]
    if let median = lengths?["median"]?.integer, let p99 = lengths?["p99"]?.integer,
      let longest = lengths?["longest"]?.integer
    {
      rows.append(("length", "median \(median), 99 of 100 up to \(p99), longest \(longest)"))
    }
    if let padding = lengths?["padding_elsewhere"]?.double {
      rows.append(
        ("padding", "0% (batches filled up to their longest: \(LineChart.number((padding * 1000).rounded() / 10))%)"))
    }
    var html = "<h2>Data</h2>\n"
    for warning in data["warnings"]?.array ?? [] {
      html += "<p class=\"warning\">\(escapedHTML(warning.string ?? ""))</p>\n"
    }
    html += "<div class=\"charts\"><div class=\"card\">\(table(rows.map { [$0.0, $0.1] }, header: nil))</div>\n"
    let bars = (lengths?["histogram"]?.array ?? []).compactMap { bucket -> (name: String, count: Int)? in
      guard let bound = bucket["up_to"]?.integer, let count = bucket["count"]?.integer else { return nil }
      return ("\(bound)", count)
    }
    let chart = BarChart(title: "Lengths of examples in tokens", bars: bars).svg
    if !chart.isEmpty { html += "<figure><figcaption>Examples by length in tokens</figcaption>\(chart)</figure>\n" }
    return html + "</div>\n"
  }

  // MARK: Answers

  private var answers: String {
    let answered = points.filter { !$0.samples.isEmpty }
    guard !answered.isEmpty else { return "" }
    var prompts: [String] = []
    for sample in answered.flatMap(\.samples) where !prompts.contains(sample.prompt) { prompts.append(sample.prompt) }
    var html = "<h2>Answers over time</h2>\n"
    for prompt in prompts {
      let rows = answered.flatMap { point in
        point.samples.filter { $0.prompt == prompt }.map { ["\(point.step)", $0.answer] }
      }
      html += "<p>\(escapedHTML(prompt))</p><div class=\"card\">\(table(rows, header: ["step", "answer"]))</div>\n"
    }
    return html
  }

  private func table(_ rows: [[String]], header: [String]?) -> String {
    func cells(_ row: [String]) -> String {
      row.enumerated().map { index, cell in
        index == 0 ? "<th>\(escapedHTML(cell))</th>" : "<td class=\"text\">\(escapedHTML(cell))</td>"
      }.joined()
    }
    let head = header.map { "<tr>" + $0.map { "<th>\(escapedHTML($0))</th>" }.joined() + "</tr>" } ?? ""
    return "<table>\(head)" + rows.map { "<tr>\(cells($0))</tr>" }.joined() + "</table>"
  }

  // MARK: Configuration

  private var configuration: String {
    guard !settings.isEmpty else { return "" }
    return "<h2>Configuration</h2>\n<div class=\"card columns\">"
      + settings.map { "<div><span>\(escapedHTML($0.name))</span><span>\(escapedHTML($0.value))</span></div>" }.joined()
      + "</div>\n"
  }
}
