// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Ownable2StepUpgradeable} from "@openzeppelin/contracts-upgradeable/access/Ownable2StepUpgradeable.sol";
import {UUPSUpgradeable} from "@openzeppelin/contracts-upgradeable/proxy/utils/UUPSUpgradeable.sol";
import {PausableUpgradeable} from "@openzeppelin/contracts-upgradeable/utils/PausableUpgradeable.sol";
import {ERC165Upgradeable} from "@openzeppelin/contracts-upgradeable/utils/introspection/ERC165Upgradeable.sol";
import {IERC165} from "@openzeppelin/contracts/utils/introspection/IERC165.sol";
import {IAppAuth} from "./IAppAuth.sol";

/// @title Governance shared by both contracts
/// @notice One owner, handed over in two steps; upgrades by the owner alone; a pause, in which every question is
/// answered with no; one audit event for every change of policy.
/// @dev Must hold no storage variable: the slots of the inheriting contracts are public interface, read by storage
/// proofs, and start at zero. OpenZeppelin keeps its own state under ERC-7201 names.
abstract contract Governed is
    Ownable2StepUpgradeable,
    UUPSUpgradeable,
    PausableUpgradeable,
    ERC165Upgradeable,
    IAppAuth
{
    /// @dev The only TCB status that counts as healthy.
    bytes32 private constant UP_TO_DATE = keccak256("UpToDate");

    /// @notice A rule changed. Follows the rule's own event, so that one topic is enough to replay all policy.
    /// @param actor Who changed it.
    /// @param policy keccak256 of the rule's name, such as "compose-hash".
    /// @param value What the rule is about: the value itself, an address left-padded with zeros, or keccak256 of
    /// longer data.
    /// @param enabled The rule's new state.
    event PolicyChanged(address indexed actor, bytes32 indexed policy, bytes32 indexed value, bool enabled);

    /// @dev The implementation behind a proxy is never to be initialised itself.
    constructor() {
        _disableInitializers();
    }

    /// @notice Refuses everybody until `unpause`. It changes no rule: rules can be changed meanwhile, and all of them
    /// are in force again afterwards.
    function pause() external onlyOwner {
        _pause();
        _policyChanged("paused", bytes32(0), true);
    }

    /// @notice Ends the pause.
    function unpause() external onlyOwner {
        _unpause();
        _policyChanged("paused", bytes32(0), false);
    }

    /// @inheritdoc ERC165Upgradeable
    function supportsInterface(bytes4 interfaceId)
        public
        view
        virtual
        override(ERC165Upgradeable, IERC165)
        returns (bool)
    {
        return interfaceId == type(IAppAuth).interfaceId || super.supportsInterface(interfaceId);
    }

    /// @dev Called by `upgradeToAndCall` before the switch.
    function _authorizeUpgrade(address implementation) internal virtual override onlyOwner {
        _policyChanged("implementation-upgrade", _word(implementation), true);
    }

    /// @dev Writes the audit event for the rule called `name`.
    function _policyChanged(string memory name, bytes32 value, bool enabled) internal {
        emit PolicyChanged(msg.sender, keccak256(bytes(name)), value, enabled);
    }

    /// @dev Whether a TCB status is exactly "UpToDate".
    function _isUpToDate(string calldata tcbStatus) internal pure returns (bool) {
        return keccak256(bytes(tcbStatus)) == UP_TO_DATE;
    }

    /// @dev An address as one word, left-padded with zeros.
    function _word(address value) internal pure returns (bytes32) {
        return bytes32(uint256(uint160(value)));
    }
}
