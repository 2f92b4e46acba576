// What is left of the requests that a registry grants, as far as the cache has to know.
import type { Repository } from '../../oci/reference.ts'

export interface Budgets {
  /**
   * Undefined: the registry names no limit. `low`: so little is left that it should go to content
   * that nobody has.
   */
  budget?(repo: Repository): { readonly low: boolean } | undefined
}
