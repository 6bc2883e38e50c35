import Tensors

extension TrainingPass {
  /// The places of everything that a pass reads and writes.
  struct Layout {
    let capacity: Int
    let headRows: Int
    /// By layer; what layers compute again, they share.
    private(set) var memories: [MemorySlots] = []
    /// The residual stream before each layer that computes its projections again.
    private(set) var keptInputs: [Int: ArenaPlan.Slot] = [:]
    let x, normed, activation: ArenaPlan.Slot
    let headSaved, headRstd, headInput, logits, logitsGradient, headInputGradient: ArenaPlan.Slot
    let dx, dxOperand, dNormed, dAttended, dq, dk, dv, workspace: ArenaPlan.Slot
    let lowRankGradients: [TargetModule: ArenaPlan.Slot]
    /// See ``DroppedHalves``.
    private(set) var halves: (kept: ArenaPlan.Slot, rest: ArenaPlan.Slot, dKept: ArenaPlan.Slot, dRest: ArenaPlan.Slot)?

    init(
      _ shape: ModelShape, _ device: any Device, adapter: Adapter?, isLearning: Bool, capacity rows: Int, headRows: Int,
      recompute: RecomputePolicy, in plan: inout ArenaPlan
    ) {
      let compute = device.computeType
      let ranks = [TargetModule: Int](
        uniqueKeysWithValues: (adapter?.configuration.targetModules ?? []).sorted { $0.rawValue < $1.rawValue }
          .map { ($0, adapter?.configuration.rank ?? 0) })
      capacity = rows
      self.headRows = headRows
      let hasMagnitudes = adapter?.configuration.useDoRA ?? false
      let levels = (0..<shape.layerCount).map { recompute.level(of: $0, of: shape.layerCount) }
      if !isLearning {
        // Nothing is trained, nothing is kept, and one set of places serves all layers.
        let slots = MemorySlots(shape, device, rows: rows, ranks: ranks, hasMagnitudes: hasMagnitudes, in: &plan)
        memories = levels.map { _ in slots }
      } else if levels.allSatisfy({ $0 == .everything }) {
        memories = levels.map { _ in
          MemorySlots(shape, device, rows: rows, ranks: ranks, hasMagnitudes: hasMagnitudes, in: &plan)
        }
      } else {
        let shared = MemorySlots(shape, device, rows: rows, ranks: ranks, hasMagnitudes: hasMagnitudes, in: &plan)
        for (layer, level) in levels.enumerated() {
          memories.append(
            MemorySlots(shape, device, rows: rows, ranks: ranks, keeping: level, sharing: shared, in: &plan))
          if level < .projections {
            keptInputs[layer] = plan.reserve(rows: rows, columns: shape.hidden, device.residualType)
          }
        }
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
      lowRankGradients = groups.reserveLowRank(Groups.all, in: &plan)
      if isLearning, hasMagnitudes, adapter.map({ $0.configuration.dropout > 0 }) ?? false {
        let widest = max(shape.hidden, shape.queryWidth, shape.intermediate)
        halves = (
          plan.reserve(rows: rows, columns: widest, compute), plan.reserve(rows: rows, columns: widest, compute),
          plan.reserve(rows: rows, columns: widest, .float32), plan.reserve(rows: rows, columns: widest, .float32)
        )
      }
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
