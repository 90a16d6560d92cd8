# Rscript effects.R   -> eta_expected.csv, simple_expected.csv, contrasts_expected.csv, read by test_effects.py
# Intervals of eta squared, simple effects and interaction contrasts of each data set
# (Debian: r-cran-afex 1.2, r-cran-car 3.1, r-cran-emmeans 1.8, r-cran-effectsize 0.8).
suppressMessages({library(afex); library(emmeans); library(effectsize)})
sets <- c("three_by_four", "two_by_two", "two_by_three_binary")

# Noncentrality parameters at which F is the upper or lower 2.5 % point, by R's own noncentral F.
noncentrality <- function(f, df1, df2) {
  at <- function(p) {
    if (pf(f, df1, df2) <= p) return(0)
    uniroot(function(x) pf(f, df1, df2, ncp = x) - p, c(0, 50 * (f * df1 + 10)), tol = 1e-12)$root
  }
  c(at(0.975), at(0.025))
}
eta_of <- function(ncp, df2) ncp / (ncp + df2)

eta <- NULL; simple <- NULL; contrasts <- NULL
for (name in sets) {
  data <- read.csv(paste0(name, ".csv"))
  data$model <- factor(data$model); data$accel <- factor(data$accel)
  fit <- suppressWarnings(suppressMessages(
    aov_ez("item", "score", data, within = c("model", "accel"), include_aov = FALSE)))
  table <- anova(fit, es = "ges", correction = "GG")   # its df are corrected
  uni <- suppressWarnings(summary(fit$Anova, multivariate = FALSE))$univariate.tests
  for (source in c("model", "accel", "model:accel")) {
    f <- uni[source, "F value"]; df1 <- table[source, "num Df"]; df2 <- table[source, "den Df"]
    partial <- f * df1 / (f * df1 + df2); ges <- table[source, "ges"]
    f_ges <- (ges / df1) / ((1 - ges) / df2)
    p <- eta_of(noncentrality(f, df1, df2), df2); g <- eta_of(noncentrality(f_ges, df1, df2), df2)
    theirs <- F_to_eta2(f, df1, df2, ci = 0.95, alternative = "two.sided")
    eta <- rbind(eta, data.frame(data = name, source = sub(":", " x ", source), df1_gg = df1, df2_gg = df2,
      ss_error = uni[source, "Error SS"], eta2_partial = partial, eta2_partial_low = p[1], eta2_partial_high = p[2],
      eta2_generalized_low = g[1], eta2_generalized_high = g[2],
      effectsize_low = theirs$CI_low, effectsize_high = theirs$CI_high))
  }
  for (within in c("model", "accel")) for (level in levels(data[[within]])) {
    effect <- setdiff(c("model", "accel"), within)
    part <- droplevels(data[data[[within]] == level, ])
    one <- suppressWarnings(suppressMessages(aov_ez("item", "score", part, within = effect, include_aov = FALSE)))
    raw <- anova(one, correction = "none"); gg <- anova(one, correction = "GG")
    simple <- rbind(simple, data.frame(data = name, effect = effect, level = level, f = raw$F, df1 = raw$`num Df`,
      df2 = raw$`den Df`, p = raw$`Pr(>F)`, eps = gg$`num Df` / raw$`num Df`, p_gg = gg$`Pr(>F)`))
  }
  means <- emmeans(fit, ~ model * accel, model = "multivariate")
  found <- contrast(means, interaction = "pairwise", adjust = "none")
  t <- as.data.frame(found)
  ci <- confint(found, adjust = "none")
  contrasts <- rbind(contrasts, data.frame(data = name, models = t$model_pairwise, accels = t$accel_pairwise,
    value = t$estimate, se = t$SE, df = t$df, p = t$p.value, ci_low = ci$lower.CL, ci_high = ci$upper.CL,
    p_holm = p.adjust(t$p.value, "holm")))
}
put <- function(x, file) write.csv(format(x, digits = 15, trim = TRUE), file, row.names = FALSE, quote = FALSE)
put(eta, "eta_expected.csv"); put(simple, "simple_expected.csv"); put(contrasts, "contrasts_expected.csv")
