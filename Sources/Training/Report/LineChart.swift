import Glibc

/// A chart of lines as SVG, drawn from numbers alone; its colours come from the page's style.
struct LineChart {
  /// One line.
  struct Series {
    /// What the legend says.
    var name: String
    /// Which of the page's colours it has, and whether it is the faint one behind another.
    var style: String
    /// Its points, from left to right.
    var points: [(x: Double, y: Double)]
    /// Whether each point is marked.
    var hasMarks = false
    /// Whether a line goes through them.
    var hasLine = true
  }

  var title: String
  var series: [Series]
  /// Whether the vertical axis is logarithmic.
  var isLogarithmic = false
  /// What the horizontal axis counts.
  var xName = "step"

  private static let (width, height) = (640.0, 280.0)
  private static let (left, right, top, bottom) = (62.0, 14.0, 14.0, 34.0)
  /// Points of a line at most: more are drawn as the extremes of as many stretches.
  private static let mostPoints = 800

  /// The chart; empty when no line has a point.
  var svg: String {
    let drawn = series.map { series in
      var series = series
      series.points = Self.thinned(
        series.points.filter { $0.y.isFinite && (!isLogarithmic || $0.y > 0) }, to: Self.mostPoints)
      return series
    }.filter { !$0.points.isEmpty }
    let (xs, ys) = (drawn.flatMap { $0.points.map(\.x) }, drawn.flatMap { $0.points.map(\.y) }.map(scaled))
    guard let firstX = xs.min(), let lastX = xs.max(), let low = ys.min(), let high = ys.max() else { return "" }
    let pad = high > low ? (high - low) * 0.06 : max(abs(high) * 0.1, 1e-9)
    // What cannot be negative begins at zero when it is near.
    let bottomValue = !isLogarithmic && low >= 0 && low < 0.3 * (high - low) ? 0 : low - pad
    let topValue = high + pad
    let spanX = lastX > firstX ? lastX - firstX : 1
    func x(_ value: Double) -> Double {
      Self.left + (value - firstX) / spanX * (Self.width - Self.left - Self.right)
    }
    func y(_ value: Double) -> Double {
      Self.top + (topValue - value) / (topValue - bottomValue) * (Self.height - Self.top - Self.bottom)
    }
    var body = ""
    let ticks = isLogarithmic ? Self.decades(bottomValue, topValue) : Self.ticks(bottomValue, topValue, 5)
    for (tick, name) in zip(ticks, Self.names(ofTicks: ticks.map { isLogarithmic ? pow(10, $0) : $0 })) {
      let place = Self.place(y(tick))
      body += "<line class=\"grid\" x1=\"\(Int(Self.left))\" x2=\"\(Int(Self.width - Self.right))\" y1=\"\(place)\" "
      body += "y2=\"\(place)\"/><text class=\"tick\" x=\"\(Int(Self.left) - 8)\" y=\"\(place)\" dy=\"4\" "
      body += "text-anchor=\"end\">\(name)</text>"
    }
    for tick in Self.ticks(firstX, lastX, 6) where tick == tick.rounded() {
      body += "<text class=\"tick\" x=\"\(Self.place(x(tick)))\" y=\"\(Int(Self.height) - 18)\" "
      body += "text-anchor=\"middle\">\(Self.number(tick))</text>"
    }
    body += "<text class=\"tick\" x=\"\(Int(Self.width - Self.right))\" y=\"\(Int(Self.height) - 4)\" "
    body += "text-anchor=\"end\">\(escapedHTML(xName))</text>"
    for series in drawn {
      let path = series.points.enumerated().map { index, point in
        "\(index == 0 ? "M" : "L")\(Self.place(x(point.x))) \(Self.place(y(scaled(point.y))))"
      }.joined()
      if series.hasLine { body += "<path class=\"line \(series.style)\" d=\"\(path)\"/>" }
      if series.hasMarks || series.points.count == 1 {
        for point in series.points {
          body += "<circle class=\"mark \(series.style)\" cx=\"\(Self.place(x(point.x)))\" "
          body += "cy=\"\(Self.place(y(scaled(point.y))))\" r=\"3.5\"><title>"
          body +=
            "\(escapedHTML(series.name)) \(Self.number(point.y)), \(escapedHTML(xName)) \(Self.number(point.x))</title></circle>"
        }
      }
    }
    return "<svg viewBox=\"0 0 \(Int(Self.width)) \(Int(Self.height))\" role=\"img\" "
      + "aria-label=\"\(escapedHTML(title))\">\(body)</svg>"
  }

  /// Title, legend and chart as a figure of a page; empty when no line has a point.
  var figure: String {
    let svg = svg
    guard !svg.isEmpty else { return "" }
    let legend = series.filter { !$0.points.isEmpty && !$0.name.isEmpty }
    let names =
      legend.count < 2
      ? ""
      : legend.map { "<span class=\"key \($0.style)\">\(escapedHTML($0.name))</span>" }.joined(separator: " ")
    return
      "<figure><figcaption>\(escapedHTML(title)) <span class=\"legend\">\(names)</span></figcaption>\(svg)</figure>\n"
  }

  private func scaled(_ value: Double) -> Double { isLogarithmic ? log10(value) : value }

  // MARK: Numbers

  /// A place in the picture, to a tenth.
  private static func place(_ value: Double) -> String { ((value * 10).rounded() / 10).description }

  /// Round numbers within a range, about so many.
  static func ticks(_ low: Double, _ high: Double, _ count: Int) -> [Double] {
    guard high > low, (high - low).isFinite else { return [low] }
    let raw = (high - low) / Double(count)
    let power = pow(10, (log10(raw)).rounded(.down))
    let step = ([1, 2, 2.5, 5, 10].first { $0 * power >= raw * 0.999 } ?? 10) * power
    var ticks: [Double] = []
    var tick = (low / step).rounded(.up) * step
    while tick <= high + step * 1e-9, ticks.count < 50 {
      ticks.append(abs(tick) < step * 1e-9 ? 0 : tick)
      tick += step
    }
    return ticks
  }

  /// Logarithms of 1, 2 and 5 of every decade within a range.
  private static func decades(_ low: Double, _ high: Double) -> [Double] {
    guard high - low < 30 else { return [low, high] }
    let steps = high - low > 2 ? [1.0] : high - low > 0.7 ? [1, 2, 5] : [1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9]
    return (Int(low.rounded(.down))...Int(high.rounded(.up))).flatMap { decade in
      steps.map { Double(decade) + log10($0) }
    }.filter { $0 >= low && $0 <= high }
  }

  /// A number with three digits that count, and k, M, G beyond a thousand.
  static func number(_ value: Double) -> String {
    guard value.isFinite else { return "–" }
    if value == 0 { return "0" }
    let size = abs(value)
    for (unit, name) in [(1e9, "G"), (1e6, "M"), (1e4, "k")] where size >= unit {
      let unit = name == "k" ? 1e3 : unit
      return digits(value / unit, 3) + name
    }
    if size < 1e-3 {
      let exponent = Int(log10(size).rounded(.down))
      return digits(value / pow(10, Double(exponent)), 2) + "e\(exponent)"
    }
    return digits(value, size >= 1000 ? 4 : 3)
  }

  /// The names of numbers on an axis: as short as tells them apart.
  static func names(ofTicks ticks: [Double]) -> [String] {
    let short = ticks.map(number)
    let steps = zip(ticks, ticks.dropFirst()).map { $1 - $0 }
    guard Set(short).count < short.count, let step = steps.min(), step > 0, let most = ticks.map(abs).max(), most < 1e12
    else { return short }
    // One more digit than the step's first: steps are 1, 2, 2.5 and 5 of a decade.
    let long = ticks.map { text($0, decimals: max(0, Int((1 - log10(step)).rounded(.up)))) }
    // More letters than the room beside the axis takes are no help.
    return long.allSatisfy { $0.utf8.count <= 7 } ? long : short
  }

  /// A number with so many digits that count, without zeros at its end.
  private static func digits(_ value: Double, _ count: Int) -> String {
    let whole = abs(value) < 1 ? 0 : Int(log10(abs(value)).rounded(.down)) + 1
    let decimals = max(0, abs(value) < 1 ? count + Int(-log10(max(abs(value), 1e-12))) : count - whole)
    return text(value, decimals: decimals)
  }

  /// A number rounded to so many decimals, without zeros at its end.
  private static func text(_ value: Double, decimals: Int) -> String {
    let scale = pow(10, Double(decimals))
    let rounded = (value * scale).rounded() / scale
    let text = rounded.description
    return text.hasSuffix(".0") ? String(text.dropLast(2)) : text
  }

  /// The least and the greatest point of each of as many stretches as fit.
  static func thinned(_ points: [(x: Double, y: Double)], to count: Int) -> [(x: Double, y: Double)] {
    guard points.count > count, count > 1 else { return points }
    let stretches = count / 2
    return (0..<stretches).flatMap { index -> [(x: Double, y: Double)] in
      let part = points[(index * points.count / stretches)..<((index + 1) * points.count / stretches)]
      guard let low = part.min(by: { $0.y < $1.y }), let high = part.max(by: { $0.y < $1.y }) else { return [] }
      return low.x == high.x ? [low] : low.x < high.x ? [low, high] : [high, low]
    }
  }
}

/// Text as HTML shows it; control characters, which no page may hold, become marks.
func escapedHTML(_ text: String) -> String {
  var result = ""
  for scalar in text.unicodeScalars {
    switch scalar {
    case "&": result += "&amp;"
    case "<": result += "&lt;"
    case ">": result += "&gt;"
    case "\"": result += "&quot;"
    case "\n", "\t": result.unicodeScalars.append(scalar)
    case _ where scalar.value < 0x20 || (0x7F...0x9F).contains(scalar.value): result += "\u{FFFD}"
    default: result.unicodeScalars.append(scalar)
    }
  }
  return result
}
