import Tensors

// All but attention treats each row by itself: a long batch goes through it in tiles, so that what is as wide as the MLP
// need not be as long as the batch.

extension BlockContext {
  /// The tiles of `rows` rows.
  func tiles(of rows: Int) -> [Range<Int>] {
    guard let tile, tile < rows else { return [0..<rows] }
    return stride(from: 0, to: rows, by: tile).map { $0..<min($0 + tile, rows) }
  }

  /// What concerns some rows of a batch; attention is not asked for with it.
  func rows(_ range: Range<Int>) -> BlockContext {
    if range.lowerBound == 0, range.count == positions.count { return self }
    var part = self
    part.positions = Array(positions[range])
    part.dropout?.firstRow = range.lowerBound
    return part
  }
}

extension Tensor {
  /// Some rows of a batch of `total`: they lie in a tensor of the whole batch, or in one for a tile at a time.
  fileprivate func rows(_ range: Range<Int>, of total: Int) -> Tensor {
    rows == total ? rows(range) : prefix(range.count)
  }
  /// The same of statistics, which lie in columns.
  fileprivate func columns(_ range: Range<Int>, of total: Int) -> Tensor {
    columns == total ? columns(range) : columns(0..<range.count)
  }
}

extension BlockMemory {
  /// Some rows of a batch of `total`; attention's statistics, which it alone reads, stay whole.
  func rows(_ range: Range<Int>, of total: Int) -> BlockMemory {
    if range.count == total { return self }
    var part = self
    part.x = x?.rows(range, of: total)
    part.xMiddle = xMiddle?.rows(range, of: total)
    part.attentionRstd = attentionRstd.columns(range, of: total)
    part.mlpRstd = mlpRstd.columns(range, of: total)
    part.headNorms = headNorms.map {
      HeadNormMemory(
        q: $0.q.rows(range, of: total), k: $0.k.rows(range, of: total), queryRstd: $0.queryRstd.rows(range, of: total),
        keyRstd: $0.keyRstd.rows(range, of: total))
    }
    (part.q, part.k, part.v) = (q.rows(range, of: total), k.rows(range, of: total), v.rows(range, of: total))
    part.attended = attended.rows(range, of: total)
    (part.gate, part.up) = (gate.rows(range, of: total), up.rows(range, of: total))
    part.lowRank = lowRank.mapValues { $0.rows(range, of: total) }
    part.unscaled = unscaled.mapValues { $0.rows(range, of: total) }
    part.halves = halves.map {
      DroppedHalves(
        kept: $0.kept.prefix(range.count), rest: $0.rest.prefix(range.count),
        keptGradient: $0.keptGradient.prefix(range.count), restGradient: $0.restGradient.prefix(range.count))
    }
    return part
  }
}

extension BlockGradients {
  /// Some rows of a batch of `total`.
  func rows(_ range: Range<Int>, of total: Int) -> BlockGradients {
    if range.count == total { return self }
    var part = self
    part.dx = dx.rows(range, of: total)
    part.dxOperand = dxOperand.prefix(range.count)
    part.dNormed = dNormed.prefix(range.count)
    part.normed = normed.prefix(range.count)
    part.activation = activation.prefix(range.count)
    part.dAttended = dAttended.rows(range, of: total)
    part.heads = heads?.map { $0.rows(range, of: total) }
    part.lowRank = lowRank.mapValues { $0.prefix(range.count) }
    return part
  }
}
