// The documentation of what this implements stands in `Device`.
// swift-format-ignore-file: AllPublicDeclarationsHaveDocumentation

import CPUKernels
import Tensors

// Normalization, rotation, attention, activation, loss and optimizer: each is one kernel.
extension CPUDevice {
  public func rmsNorm(_ x: Tensor, _ gamma: Tensor, epsilon: Float, into y: Tensor, rstd: Tensor, saved: Tensor?) throws
  {
    sl_rmsnorm_forward(
      Int64(x.rows), Int64(x.columns), x.floats, x.stride, gamma.floats, epsilon, y.pointer, y.stride, rstd.floats,
      saved?.pointer, saved?.stride ?? 0, y.kernelType)
  }

  public func rmsNormAgain(_ saved: Tensor, rstd: Tensor, _ gamma: Tensor, into y: Tensor) throws {
    sl_rmsnorm_apply(
      Int64(saved.rows), Int64(saved.columns), saved.pointer, saved.stride, rstd.floats, gamma.floats, y.pointer,
      y.stride, y.kernelType)
  }

  public func rmsNormBackward(
    _ dy: Tensor, saved: Tensor, rstd: Tensor, _ gamma: Tensor, addingTo dx: Tensor, copy: Tensor?
  ) throws {
    sl_rmsnorm_backward(
      Int64(dx.rows), Int64(dx.columns), saved.pointer, saved.stride, rstd.floats, gamma.floats, dy.pointer, dy.stride,
      dy.kernelType, dx.floats, dx.stride, copy?.pointer, copy?.stride ?? 0, saved.kernelType)
  }

  public func rotate(
    _ x: Tensor, headDimension: Int, bias: Tensor?, positions: [Int32], cosines: Tensor, sines: Tensor, inverse: Bool
  ) throws {
    assert(positions.count >= x.rows)
    sl_rope(
      Int64(x.rows), x.pointer, x.stride, Int64(x.columns / headDimension), 0, Int64(headDimension),
      Int64(cosines.columns * 2), cosines.floats, sines.floats, positions, bias?.floats, inverse ? 1 : 0, x.kernelType)
  }

  public func addBias(_ bias: Tensor, to x: Tensor) throws {
    sl_add_bias(Int64(x.rows), Int64(x.columns), bias.floats, x.pointer, x.kernelType, x.stride)
  }

  public func headNorm(_ x: Tensor, _ gamma: Tensor, epsilon: Float, into y: Tensor, rstd: Tensor?) throws {
    sl_headnorm_forward(
      Int64(x.rows), Int64(x.columns / gamma.columns), Int64(gamma.columns), x.pointer, x.stride, gamma.floats,
      epsilon, y.pointer, y.stride, rstd?.floats, x.kernelType)
  }

  public func headNormBackward(_ gradient: Tensor, _ x: Tensor, rstd: Tensor, _ gamma: Tensor) throws {
    assert(rstd.isDense)
    sl_headnorm_backward(
      Int64(x.rows), Int64(x.columns / gamma.columns), Int64(gamma.columns), x.pointer, x.stride, rstd.floats,
      gamma.floats, gradient.pointer, gradient.stride, x.kernelType)
  }

  public func attention(
    _ q: Tensor, _ k: Tensor, _ v: Tensor, _ shape: AttentionShape, _ spans: [AttentionSpan], into output: Tensor,
    logSumExp: Tensor?
  ) throws {
    var kernelShape = kernelShape(shape)
    sl_attention_forward(
      &kernelShape, spans.map(\.kernelSpan), Int64(spans.count), q.pointer, q.stride, k.pointer, k.stride, v.pointer,
      v.stride, output.pointer, output.stride, logSumExp?.floats, logSumExp?.stride ?? 0)
  }

  public func attentionBackward(
    _ dOutput: Tensor, _ q: Tensor, _ k: Tensor, _ v: Tensor, _ output: Tensor, logSumExp: Tensor,
    _ shape: AttentionShape, _ spans: [AttentionSpan], into dq: Tensor, _ dk: Tensor, _ dv: Tensor, workspace: Tensor
  ) throws {
    // Queries are packed before any gradient is written, keys and values by the one task that writes theirs: all may lie in place.
    let needed = attentionWorkspace(shape, spans, inPlace: true)
    guard workspace.byteCount >= needed else {
      throw DeviceError("attention was given \(workspace.byteCount) bytes to work in, it needs \(needed)")
    }
    var kernelShape = kernelShape(shape)
    sl_attention_backward(
      &kernelShape, spans.map(\.kernelSpan), Int64(spans.count), q.pointer, q.stride, k.pointer, k.stride, v.pointer,
      v.stride, output.pointer, output.stride, logSumExp.floats, logSumExp.stride, dOutput.pointer, dOutput.stride,
      dq.pointer, dq.stride, dk.pointer, dk.stride, dv.pointer, dv.stride, workspace.pointer)
  }

  public func attentionWorkspace(_ shape: AttentionShape, _ spans: [AttentionSpan], inPlace: Bool) -> Int {
    var kernelShape = kernelShape(shape)
    return sl_attention_backward_workspace(&kernelShape, spans.map(\.kernelSpan), Int64(spans.count))
  }

  private func kernelShape(_ shape: AttentionShape) -> sl_attention_shape {
    sl_attention_shape(
      heads: Int64(shape.heads), kv_heads: Int64(shape.keyValueHeads), head_dim: Int64(shape.headDimension),
      window: Int64(shape.window ?? 0), scale: shape.scale, dtype: kernelType)
  }

  public func swiGLU(_ gate: Tensor, _ up: Tensor, into y: Tensor) throws {
    assert(gate.rowStride == up.rowStride)
    sl_swiglu_forward(
      Int64(y.rows), Int64(y.columns), gate.pointer, up.pointer, gate.stride, y.pointer, y.stride, y.kernelType)
  }

  public func swiGLUBackward(_ dy: Tensor, _ gate: Tensor, _ up: Tensor, y: Tensor?) throws {
    assert(gate.rowStride == up.rowStride)
    sl_swiglu_backward(
      Int64(dy.rows), Int64(dy.columns), gate.pointer, up.pointer, gate.stride, dy.pointer, dy.stride, gate.pointer,
      up.pointer, gate.stride, y?.pointer, y?.stride ?? 0, dy.kernelType)
  }

  public func crossEntropy(
    _ logits: Tensor, targets: [Int32], scale: Float, gradient: Tensor?, rowLosses: UnsafeMutablePointer<Float>?
  ) throws -> Double {
    assert(targets.count == logits.rows)
    var loss = 0.0
    sl_cross_entropy(
      Int64(logits.rows), Int64(logits.columns), logits.floats, logits.stride, targets, scale, &loss,
      gradient?.pointer, gradient?.kernelType ?? SL_F32, gradient?.stride ?? 0, rowLosses)
    return loss
  }

  public func squaredNorm(_ x: Tensor) throws -> Double {
    assert(x.isDense)
    return sl_squared_norm(Int64(x.count), x.floats)
  }

  public func adamW(
    parameters: Tensor, gradients: Tensor, firstMoment: Tensor, secondMoment: Tensor, _ step: AdamWStep
  ) throws {
    let correction1 = 1 - pow(step.beta1, step.step)
    let correction2 = 1 - pow(step.beta2, step.step)
    sl_adamw(
      Int64(parameters.count), parameters.floats, gradients.floats, firstMoment.floats, secondMoment.floats,
      step.learningRate, step.beta1, step.beta2, step.epsilon, step.weightDecay, step.gradientScale, correction1,
      correction2)
  }

  public func scale(_ source: Tensor, by factor: Float, to destination: Tensor) throws {
    assert(source.isDense && destination.isDense && source.count == destination.count)
    sl_scale(Int64(source.count), source.floats, factor, destination.pointer, destination.kernelType)
  }

  /// βᵗ in double precision.
  func pow(_ base: Double, _ exponent: Int) -> Double {
    var result = 1.0
    var factor = base
    var rest = exponent
    while rest > 0 {
      if rest & 1 == 1 { result *= factor }
      factor *= factor
      rest >>= 1
    }
    return result
  }
}

extension AttentionSpan {
  fileprivate var kernelSpan: sl_span {
    sl_span(
      q_begin: Int64(queries.lowerBound), q_count: Int64(queries.count), kv_begin: Int64(keys.lowerBound),
      kv_count: Int64(keys.count))
  }
}
