import Models
import Tensors

#if canImport(Glibc)
  import Glibc
#endif

/// Attention of one new token of each sequence.
private struct DecodingShape {
  var heads: Int
  var keyHeads: Int
  var d: Int
  /// Features of each head that turn.
  var turning: Int
  var window: Int?
  /// Tokens before the new one, by sequence.
  var before: [Int]
  var biased = false
  var normed = false
  var splits: Int
}

extension Case {
  /// What decoding asks of a device that keeps caches in pages; of others, the same in their words.
  static let decoding: [Case] =
    [
      DecodingShape(heads: 4, keyHeads: 1, d: 64, turning: 64, before: [0, 63, 64, 200], splits: 2),
      DecodingShape(heads: 4, keyHeads: 2, d: 128, turning: 96, before: [130], biased: true, splits: 4),
      DecodingShape(
        heads: 9, keyHeads: 1, d: 20, turning: 16, before: [5, 300], biased: true, normed: true, splits: 8),
      DecodingShape(
        heads: 2, keyHeads: 2, d: 96, turning: 0, window: 70, before: [69, 70, 150], normed: true, splits: 1),
      DecodingShape(heads: 3, keyHeads: 1, d: 64, turning: 64, window: 33, before: [400], splits: 16),
    ].map { attention($0) }
    + [(3, 50), (2, 5000)].map { rows, vocabulary in
      Case(name: "choice of a token \(rows) × \(vocabulary)", run: choice(rows, vocabulary))
    }

  static let largeDecoding: [Case] = [
    attention(
      DecodingShape(
        heads: 40, keyHeads: 10, d: 128, turning: 128, before: [2047, 1, 700, 4100], splits: 16), isLarge: true),
    // One sequence, by its length: query heads by themselves, then two to a block.
    attention(
      DecodingShape(heads: 40, keyHeads: 10, d: 128, turning: 128, before: [191], splits: 1), isLarge: true),
    attention(
      DecodingShape(heads: 40, keyHeads: 10, d: 128, turning: 128, before: [1221], splits: 3), isLarge: true),
    attention(
      DecodingShape(heads: 40, keyHeads: 10, d: 128, turning: 128, before: [4096], splits: 6), isLarge: true),
    Case(name: "choice of a token 4 × 100352", run: choice(4, 100_352)),
  ]

  private static func attention(_ shape: DecodingShape, isLarge: Bool = false) -> Case {
    var name = "decoding attention \(shape.heads)/\(shape.keyHeads) heads of \(shape.d), \(shape.turning) turn"
    if let window = shape.window { name += ", window \(window)" }
    if shape.biased { name += ", biases" }
    if shape.normed { name += ", norms" }
    name += ", after \(shape.before.map(String.init).joined(separator: "+"))"
    return Case(name: name, isLarge: isLarge) { trial in
      let (rows, width) = (shape.before.count, shape.keyHeads * shape.d)
      let q = try trial.operand(rows, shape.heads * shape.d)
      let (k, v) = (try trial.operand(rows, width), try trial.operand(rows, width))
      let longest = (shape.before.max() ?? 0) + 1
      let half = shape.turning / 2
      let angles = (0..<longest * half).map { Double($0 / half) * pow(0.8, Double($0 % half)) }
      let cosines = half == 0 ? nil : try trial.tensor(longest, half, angles.map { Float(cos($0)) }, .float32)
      let sines = half == 0 ? nil : try trial.tensor(longest, half, angles.map { Float(sin($0)) }, .float32)
      func floats(_ wanted: Bool, _ columns: Int) throws -> Tensor? { wanted ? try trial.floats(1, columns) : nil }
      let token = TokenProjections(
        q: q, k: k, v: v, biasQ: try floats(shape.biased, shape.heads * shape.d),
        biasK: try floats(shape.biased, width), biasV: try floats(shape.biased, width),
        gammaQ: try floats(shape.normed, shape.d), gammaK: try floats(shape.normed, shape.d), epsilon: 1e-6,
        cosines: cosines, sines: sines)
      let cached = shape.before.map { (keys: trial.values($0 * width), values: trial.values($0 * width)) }
      let attention = AttentionShape(
        heads: shape.heads, keyValueHeads: shape.keyHeads, headDimension: shape.d, window: shape.window)
      let output = try trial.empty(rows, shape.heads * shape.d)
      if let paged = trial.device.pagedDecoding {
        // The second of two layers; what belongs to no token is NaN.
        let layer = CacheLayer(1, width: width)
        let pageElements = 4 * CachePage.tokens * width
        var lists: [Tensor] = []
        var pages: [Tensor] = []
        for (before, cache) in zip(shape.before, cached) {
          let count = before / CachePage.tokens + 1
          var elements = [UInt16](repeating: 0xffff, count: count * pageElements)
          for (index, value) in cache.keys.enumerated() {
            let (position, feature) = (index / width, index % width)
            let at =
              position / CachePage.tokens * pageElements + position % CachePage.tokens * width + feature
            elements[at + layer.keys] = UInt16(truncatingIfNeeded: value.bitPattern >> 16)
            elements[at + layer.values] = UInt16(truncatingIfNeeded: cache.values[index].bitPattern >> 16)
          }
          let page = try bytes(elements, on: trial.device)
          pages.append(page)
          lists.append(
            try bytes((0..<count).map { UInt64(page.address) + UInt64($0 * pageElements * 2) }, on: trial.device))
        }
        let positions = try bytes(shape.before.map { Int32($0) }, on: trial.device)
        try paged.attention(
          token,
          DecodingRows(
            positions: positions, pageLists: bytes(lists.map { UInt64($0.address) }, on: trial.device)),
          in: layer, attention, splits: shape.splits, into: output)
        try trial.record("attended", output, bound: Bounds.twice)
        withExtendedLifetime((pages, lists)) {}
        return
      }
      try attendInWords(token, shape, cached, attention, into: output, trial)
      try trial.record("attended", output, bound: Bounds.twice)
    }
  }

  /// Bias, norm, rotation, and attention of each sequence by itself.
  private static func attendInWords(
    _ token: TokenProjections, _ shape: DecodingShape, _ cached: [(keys: [Float], values: [Float])],
    _ attention: AttentionShape, into output: Tensor, _ trial: Trial
  ) throws {
    let device = trial.device
    for (x, bias, gamma) in [(token.q, token.biasQ, token.gammaQ), (token.k, token.biasK, token.gammaK)] {
      if let bias { try device.addBias(bias, to: x) }
      if let gamma { try device.headNorm(x, gamma, epsilon: token.epsilon, into: x, rstd: nil) }
      guard let cosines = token.cosines, let sines = token.sines else { continue }
      try device.rotate(
        x, headDimension: shape.d, bias: nil, positions: shape.before.map { Int32($0) }, cosines: cosines,
        sines: sines, inverse: false)
    }
    if let bias = token.biasV { try device.addBias(bias, to: token.v) }
    for (row, cache) in cached.enumerated() {
      let before = shape.before[row]
      let keys = try trial.empty(before + 1, token.k.columns)
      let values = try trial.empty(before + 1, token.k.columns)
      for (cache, new, all) in [(cache.keys, token.k, keys), (cache.values, token.v, values)] {
        if before > 0 { try trial.fill(all.prefix(before), cache) }
        try device.copy(new.rows(row..<row + 1), to: all.rows(before..<before + 1))
      }
      try device.attention(
        token.q.rows(row..<row + 1), keys, values, attention,
        [AttentionSpan(queries: 0..<1, keys: 0..<before + 1)], into: output.rows(row..<row + 1), logSumExp: nil)
    }
  }

  // MARK: Choosing

  /// The likeliest token exactly; a drawn one among those that the options leave, and the same twice.
  private static func choice(_ rows: Int, _ vocabulary: Int) -> @Sendable (Trial) throws -> Void {
    { trial in
      let values = (0..<rows).map { _ in trial.values(vocabulary, 6) }
      let seen = (0..<rows).map { _ in Set(trial.integers(8, below: vocabulary)) }
      let points = trial.integers(rows, below: 1000).map { (Double($0) + 0.5) / 1000 }
      let ways: [SamplingOptions] = [
        SamplingOptions(), SamplingOptions(repetitionPenalty: 1.5), SamplingOptions(temperature: 1, topK: 1),
        SamplingOptions(temperature: 2, topP: 0.3), SamplingOptions(temperature: 3, topK: 9),
        SamplingOptions(temperature: 2, topP: 0.9, topK: 40, minP: 0.2), SamplingOptions(temperature: 1.5),
      ]
      for options in ways {
        var result: [Float] = []
        for row in 0..<rows {
          var logits = values[row]
          if options.repetitionPenalty != 1 {
            let penalty = Float(options.repetitionPenalty)
            for token in seen[row] { logits[Int(token)] *= logits[Int(token)] > 0 ? 1 / penalty : penalty }
          }
          guard let paged = trial.device.pagedDecoding else {
            // What is right: the likeliest, or "one of those that are left, and the same again".
            let best = logits.max().flatMap { logits.firstIndex(of: $0) } ?? -1
            result.append(options.temperature == 0 || options.topK == 1 ? Float(best) : 1)
            continue
          }
          let first = try chosen(values[row], seen[row], options, points[row], paged, trial.device)
          let again = try chosen(values[row], seen[row], options, points[row], paged, trial.device)
          if options.temperature == 0 || options.topK == 1 {
            result.append(Float(first))
          } else {
            let isLeft = left(logits, options).contains(Int(first))
            result.append(isLeft && first == again ? 1 : 0)
          }
        }
        trial.record("\(options.temperature) \(options.topK) \(options.topP)", result, bound: Bounds.exact)
      }
    }
  }

  /// The tokens that may be drawn, by the definition; the last of them may be one more, for rounding.
  private static func left(_ logits: [Float], _ options: SamplingOptions) -> Set<Int> {
    let top = Double(logits.max() ?? 0)
    let weights = logits.map { exp((Double($0) - top) / options.temperature) }
    var order = weights.indices.filter { weights[$0] >= options.minP * 0.9999 }
    guard options.topK > 0 || options.topP < 1 else { return Set(order) }
    order.sort { (logits[$0], $1) > (logits[$1], $0) }
    if options.topK > 0 { order = Array(order.prefix(options.topK)) }
    let wanted = options.topP * 1.0001 * order.reduce(0) { $0 + weights[$1] }
    var (kept, sum) = (Set<Int>(), 0.0)
    for token in order where sum < wanted {
      kept.insert(token)
      sum += weights[token]
    }
    return kept
  }

  private static func chosen(
    _ logits: [Float], _ seen: Set<Int32>, _ options: SamplingOptions, _ point: Double, _ paged: any PagedDecoding,
    _ device: any Device
  ) throws -> Int32 {
    let tensor = try device.tensor(logits)
    var bits = [UInt8](repeating: 0, count: (logits.count + 31) / 32 * 4)
    for token in seen { bits[Int(token) / 8] |= 1 << UInt8(token % 8) }
    let draw = TokenDraw(
      sharpness: options.temperature > 0 ? Float(1 / options.temperature) : 0, topP: Float(options.topP),
      minP: Float(options.minP), repetitionPenalty: Float(options.repetitionPenalty), topK: Int32(options.topK),
      slot: 0, point: point)
    let token = try bytes([Int32(-7)], on: device)
    try paged.sample(tensor, draws: bytes([draw], on: device), seen: bytes(bits, on: device), into: token)
    var result = [Int32](repeating: -9, count: 1)
    try result.withUnsafeMutableBytes { try device.download(token, to: $0) }
    return result[0]
  }

  /// Values as they lie in memory.
  private static func bytes<Element>(_ values: [Element], on device: any Device) throws -> Tensor {
    let count = values.count * MemoryLayout<Element>.stride
    let tensor = Tensor(try device.allocate(byteCount: count), rows: 1, columns: count, dtype: .uint8)
    try values.withUnsafeBytes { try device.upload($0, to: tensor) }
    return tensor
  }
}
