import Testing

@testable import Hub
@testable import SwiftletCLI

@Suite struct ProgressLineTests {
  private final class Screen { var text = "" }

  private func step(_ number: Int, evalLoss: Double? = nil) -> ProgressLine.Step {
    ProgressLine.Step(
      step: number, totalSteps: 100, loss: 2.5, learningRate: 2e-4, gradientNorm: 0.75, tokensPerSecond: 1234.4,
      eta: 75, memoryBytes: 3 << 29, evalLoss: evalLoss)
  }

  @Test func textOfAStep() {
    #expect(
      ProgressLine.text(step(7), mean: 2.75)
        == "step   7/100  loss 2.5000  mean 2.7500  lr 2.00e-04  grad 0.750  1,234 tokens/s  1.50 GiB  eta 1m15s")
    #expect(
      ProgressLine.text(step(100, evalLoss: 2), mean: 2.5)
        == "step 100/100  loss 2.5000  mean 2.5000  eval 2.0000  lr 2.00e-04  grad 0.750  1,234 tokens/s  1.50 GiB")
    // Where there is less room, what matters least goes first.
    #expect(
      ProgressLine.text(step(7), mean: 2.75, columns: 80)
        == "step   7/100  loss 2.5000  mean 2.7500  grad 0.750  1,234 tokens/s  eta 1m15s")
    #expect(ProgressLine.text(step(7), mean: 2.75, columns: 40) == "step   7/100  loss 2.5000  eta 1m15s")
    #expect(ProgressLine.text(step(7, evalLoss: 2), mean: 2.75, columns: 1) == "step   7/100  loss 2.5000  eval 2.0000")
  }

  @Test func aTerminalRewritesOneLine() {
    let screen = Screen()
    var line = ProgressLine(isTerminal: true, columns: { 30 }, write: { screen.text += $0 })
    line.show(step(1), at: 0)
    line.show(step(2), at: 0.1)
    line.finish()
    line.finish()
    #expect(screen.text == "\r\u{1B}[Kstep   1/100  loss 2.5000\r\u{1B}[Kstep   2/100  loss 2.5000\n")
  }

  @Test func anEvaluationStaysOnTheTerminal() {
    let screen = Screen()
    var line = ProgressLine(isTerminal: true, columns: { 200 }, write: { screen.text += $0 })
    line.show(step(1, evalLoss: 3), at: 0)
    line.finish()
    #expect(screen.text.hasSuffix("eta 1m15s\n"))
  }

  @Test func aLogHasALineNowAndThen() {
    let screen = Screen()
    var line = ProgressLine(isTerminal: false, write: { screen.text += $0 })
    // The first, each tenth of the run, one after ten slow seconds, an evaluation, the last.
    for number in 1...100 {
      line.show(step(number, evalLoss: number == 57 ? 1 : nil), at: number < 45 ? 0 : number == 45 ? 20 : 21)
    }
    line.finish()
    let shown = screen.text.split(separator: "\n").map { $0.split(separator: "/")[0].split(separator: " ")[1] }
    #expect(shown == ["1", "11", "21", "31", "41", "45", "55", "57", "67", "77", "87", "97", "100"])
    #expect(!screen.text.contains("\u{1B}"))
  }

  @Test func workIsCountedWithWhatRemains() {
    let screen = Screen()
    func line(isTerminal: Bool) -> RewrittenLine {
      RewrittenLine(isTerminal: isTerminal, columns: { 200 }, write: { screen.text += $0 })
    }
    var bytes = CountProgressLine(action: "writing", bytes: 4 << 30, line: line(isTerminal: true))
    for second in 0...4 { bytes.show(second << 28, at: Double(second) / 2) }
    bytes.show(5 << 28, at: 2.1)
    bytes.finish()
    bytes.finish()
    #expect(screen.text.hasSuffix("\r\u{1B}[Kwriting 1.00 GiB of 4.00 GiB  512 MiB/s  eta 6s\n"), "\(screen.text)")
    screen.text = ""
    var things = CountProgressLine(action: "writing", unit: "layers", total: 40, line: line(isTerminal: false))
    for number in 0...40 { things.show(number, at: Double(number)) }
    things.finish()
    #expect(
      screen.text
        == "writing 10 of 40 layers  eta 30s\nwriting 20 of 40 layers  eta 20s\nwriting 30 of 40 layers  eta 10s\n"
        + "writing 40 of 40 layers  eta 0s\n")
  }

  @Test func aDownloadSaysHowFarItIs() {
    let progress = HubProgress(bytesDone: 3 << 29, bytesTotal: 6 << 30, filesLeft: 2)
    #expect(
      DownloadLine.text("a/b", progress, rate: Double(64 << 20))
        == "a/b  1.50 GiB of 6.00 GiB  25%  64.0 MiB/s  eta 1m12s")
    let done = HubProgress(bytesDone: 5, bytesTotal: 5, filesLeft: 0)
    #expect(DownloadLine.text("a/b", done, rate: 0) == "a/b  5 B of 5 B  100%  0 B/s")
  }
}
