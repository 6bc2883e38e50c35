import Tensors

extension TrainingPass {
  /// One layer's places; see ``BlockMemory``.
  struct MemorySlots {
    var x, xMiddle, attentionRstd, mlpRstd, q, k, v, attended, logSumExp, gate, up: ArenaPlan.Slot
    var headNorms: (q: ArenaPlan.Slot, k: ArenaPlan.Slot, queryRstd: ArenaPlan.Slot, keyRstd: ArenaPlan.Slot)?
    var lowRank: [TargetModule: ArenaPlan.Slot]

    init(
      _ shape: ModelShape, _ device: any Device, rows: Int, ranks: [TargetModule: Int], in plan: inout ArenaPlan
    ) {
      let compute = device.computeType
      let groups = Groups(device, rows: rows, ranks: ranks)
      func operand(_ columns: Int) -> ArenaPlan.Slot { plan.reserve(rows: rows, columns: columns, compute) }
      func statistics(_ count: Int) -> ArenaPlan.Slot { plan.reserve(rows: count, columns: rows, .float32) }
      x = operand(shape.hidden)
      xMiddle = operand(shape.hidden)
      attentionRstd = statistics(1)
      mlpRstd = statistics(1)
      // What the projections to q, k and v write.
      let projected = groups.reserve(
        [shape.queryWidth, shape.keyValueWidth, shape.keyValueWidth], tail: nil, in: &plan)
      if shape.normalizesHeads {
        headNorms = (
          q: projected[0], k: projected[1], queryRstd: plan.reserve(rows: rows, columns: shape.heads, .float32),
          keyRstd: plan.reserve(rows: rows, columns: shape.keyValueHeads, .float32)
        )
        q = operand(shape.queryWidth)
        k = operand(shape.keyValueWidth)
      } else {
        q = projected[0]
        k = projected[1]
      }
      v = projected[2]
      attended = groups.reserve([shape.queryWidth], tail: [.output], in: &plan)[0]
      logSumExp = statistics(shape.heads)
      // The backward pass turns them into their gradients, which a product reads.
      let gateUp = groups.reserve([shape.intermediate, shape.intermediate], tail: [.gate, .up], in: &plan)
      gate = gateUp[0]
      up = gateUp[1]
      lowRank = groups.reserveLowRank(in: &plan)
    }
  }

  /// How the tensors of a group of projections lie: each by itself, or side by side with room behind them where the device
  /// multiplies a group as one.
  struct Groups {
    private static let all: [[TargetModule]] = [[.query, .key, .value], [.output], [.gate, .up], [.down]]
    private let device: any Device
    private let rows: Int
    private let ranks: [TargetModule: Int]

    init(_ device: any Device, rows: Int, ranks: [TargetModule: Int]) {
      self.device = device
      self.rows = rows
      self.ranks = ranks
    }

    /// The room that the device wants behind a tensor which the group reads or whose gradient it is.
    func tail(_ group: [TargetModule]) -> Int? { device.operandTail(ranks: group.map { ranks[$0] ?? 0 }) }

    /// Places for tensors of a group; `tail`: the group whose product reads them, nil where none does.
    func reserve(_ columns: [Int], tail group: [TargetModule]?, in plan: inout ArenaPlan) -> [ArenaPlan.Slot] {
      reserve(columns, room: group.map { tail($0) } ?? tail([]), in: &plan)
    }

    /// A place for a tensor that several groups read.
    func reserve(_ columns: Int, tailOfAny groups: [[TargetModule]], in plan: inout ArenaPlan) -> ArenaPlan.Slot {
      reserve([columns], room: groups.compactMap { tail($0) }.max(), in: &plan)[0]
    }

    private func reserve(_ columns: [Int], room: Int?, in plan: inout ArenaPlan) -> [ArenaPlan.Slot] {
      guard let room else { return columns.map { plan.reserve(rows: rows, columns: $0, device.computeType) } }
      return plan.reserve(rows: rows, sideBySide: columns, device.computeType, tail: room)
    }

    /// Places for what the low-rank pairs keep.
    func reserveLowRank(in plan: inout ArenaPlan) -> [TargetModule: ArenaPlan.Slot] {
      var slots: [TargetModule: ArenaPlan.Slot] = [:]
      for group in Self.all {
        let modules = group.filter { ranks[$0] != nil }
        let places = reserve(modules.map { ranks[$0] ?? 0 }, tail: nil, in: &plan)
        for (module, place) in zip(modules, places) { slots[module] = place }
      }
      return slots
    }
  }

  /// The places of everything that a pass reads and writes.
  struct Layout {
    let capacity: Int
    let headRows: Int
    /// By layer; layers that recompute share one.
    private(set) var memories: [MemorySlots] = []
    /// The residual stream before each layer that recomputes.
    private(set) var keptInputs: [Int: ArenaPlan.Slot] = [:]
    let x, normed, activation: ArenaPlan.Slot
    let headSaved, headRstd, headInput, logits, logitsGradient, headInputGradient: ArenaPlan.Slot
    let dx, dxOperand, dNormed, dAttended, dq, dk, dv, workspace: ArenaPlan.Slot
    let lowRankGradients: [TargetModule: ArenaPlan.Slot]

    init(
      _ shape: ModelShape, _ device: any Device, adapter: Adapter?, capacity rows: Int, headRows: Int, recomputed: Int,
      in plan: inout ArenaPlan
    ) {
      let compute = device.computeType
      let ranks = [TargetModule: Int](
        uniqueKeysWithValues: (adapter?.configuration.targetModules ?? []).sorted { $0.rawValue < $1.rawValue }
          .map { ($0, adapter?.configuration.rank ?? 0) })
      // Without an adapter to train nothing is kept, and one set serves all layers.
      let shared = adapter?.gradients == nil ? shape.layerCount : recomputed
      capacity = rows
      self.headRows = headRows
      if shared > 0 {
        let slots = MemorySlots(shape, device, rows: rows, ranks: ranks, in: &plan)
        for layer in 0..<shared {
          memories.append(slots)
          if adapter?.gradients != nil {
            keptInputs[layer] = plan.reserve(rows: rows, columns: shape.hidden, device.residualType)
          }
        }
      }
      for _ in shared..<shape.layerCount {
        memories.append(MemorySlots(shape, device, rows: rows, ranks: ranks, in: &plan))
      }
      x = plan.reserve(rows: rows, columns: shape.hidden, device.residualType)
      let groups = Groups(device, rows: rows, ranks: ranks)
      normed = groups.reserve(shape.hidden, tailOfAny: [[.query, .key, .value], [.gate, .up]], in: &plan)
      dx = plan.reserve(rows: rows, columns: shape.hidden, device.residualType)
      dxOperand = groups.reserve(shape.hidden, tailOfAny: [[.output], [.down]], in: &plan)
      dNormed = plan.reserve(rows: rows, columns: shape.hidden, .float32)
      // The head's part is over before the blocks' backward part begins.
      let head = plan.scope { plan in
        (
          saved: plan.reserve(rows: rows, columns: shape.hidden, compute),
          rstd: plan.reserve(rows: 1, columns: rows, .float32),
          input: plan.reserve(rows: headRows, columns: shape.hidden, compute),
          logits: plan.reserve(rows: headRows, columns: shape.vocabulary, .float32),
          gradient: plan.reserve(rows: headRows, columns: shape.vocabulary, compute),
          inputGradient: plan.reserve(rows: headRows, columns: shape.hidden, .float32)
        )
      }
      (headSaved, headRstd, headInput) = (head.saved, head.rstd, head.input)
      (logits, logitsGradient, headInputGradient) = (head.logits, head.gradient, head.inputGradient)
      // Forward and backward both want the activation; attention's gradients and the activation never live together, but
      // the adapters' need both orders, so each has a place.
      activation = groups.reserve([shape.intermediate], tail: [.down], in: &plan)[0]
      dAttended = plan.reserve(rows: rows, columns: shape.queryWidth, compute)
      let gradients = groups.reserve(
        [shape.queryWidth, shape.keyValueWidth, shape.keyValueWidth], tail: [.query, .key, .value], in: &plan)
      (dq, dk, dv) = (gradients[0], gradients[1], gradients[2])
      lowRankGradients = groups.reserveLowRank(in: &plan)
      let attention = AttentionShape(
        heads: shape.heads, keyValueHeads: shape.keyValueHeads, headDimension: shape.headDimension)
      // Documents are padded to whole tiles: what short ones need beyond this, a pass allocates when it meets them.
      let spans = stride(from: 0, to: rows, by: 128).map { start in
        let document = start..<min(start + 128, rows)
        return AttentionSpan(queries: document, keys: document)
      }
      let workspaceBytes = max(
        device.attentionWorkspace(attention, spans),
        device.attentionWorkspace(attention, [AttentionSpan(queries: 0..<rows, keys: 0..<rows)]))
      workspace = plan.reserve(rows: 1, columns: workspaceBytes, .uint8)
    }
  }
}
